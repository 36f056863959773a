"""The table of the notebooks: 1,309 passengers of the Titanic, from a file that ships inside scikit-learn."""

from gzip import decompress
from importlib.resources import files
from io import StringIO

import pandas as pd

COLUMNS = ["pclass", "survived", "sex", "age", "sibsp", "parch", "fare", "embarked"]
CLASSES = {1: "first", 2: "second", 3: "third"}


def passengers() -> pd.DataFrame:
    """Return the passengers in a fixed random order, without what is about single persons (names, tickets, cabins)."""
    packed = files("sklearn.datasets.tests.data.openml.id_40945").joinpath("data-v1-dl-16826755.arff.gz")
    text = decompress(packed.read_bytes()).decode("utf-8")
    head, _, rows = text.partition("@data\n")
    names = [line.split("'")[1] for line in head.splitlines() if line.startswith("@attribute")]
    table = pd.read_csv(StringIO(rows), names=names, na_values="?")
    table["pclass"], table["survived"] = table["pclass"].map(CLASSES), table["survived"].map({0: "no", 1: "yes"})
    return table[COLUMNS].sample(frac=1, random_state=0, ignore_index=True)
