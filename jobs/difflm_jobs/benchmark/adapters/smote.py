"""SMOTE (imbalanced-learn) as a generator: as many new rows of every class as it has, none of the real ones.

As in the code of TabDDPM and TabSyn: classes of the target; of a target that is a number, above and below its median.
Numbers are scaled to [0, 1] in between, or the widest column alone would say who is a neighbour.
"""

from typing import Any

TAKES_MISSING = False


def fit(train: Any, job: dict[str, Any]) -> Any:
    """Return the features and the classes to interpolate within; there is nothing to train."""
    target = job["target"]
    if target is None:
        raise ValueError("SMOTE needs a target, whose classes it interpolates within")
    if job["task"] == "classification":
        features, classes = train.drop(columns=[target]), train[target].astype(str)
    else:
        features, classes = train, (train[target] > train[target].median()).astype(int)
    counts = classes.value_counts()
    single = counts.index[counts < 2]
    if len(single):
        job["notes"].append(f"{len(single)} classes of a single row were left out")
    kept = ~classes.isin(single)
    return features[kept].reset_index(drop=True), classes[kept].reset_index(drop=True)


def sample(model: Any, rows: int, job: dict[str, Any]) -> Any:
    """Interpolate between neighbours; categories are those of most neighbours."""
    import numpy as np
    import pandas as pd
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    features, classes = model
    counts = classes.value_counts()
    wanted = (counts / counts.sum() * rows).round().clip(lower=1).astype(int)
    settings = {
        "sampling_strategy": {label: int(counts[label] + wanted[label]) for label in counts.index},
        "k_neighbors": min(job["settings"]["neighbours"], int(counts.min()) - 1),
        "random_state": job["seed"],
    }
    named = {column["name"] for column in job["columns"] if column["kind"] == "category"}
    categories = [name for name in features.columns if name in named]
    if not categories:
        method = SMOTE(**settings)
    elif len(categories) == len(features.columns):
        method = SMOTEN(**settings)
    else:
        method = SMOTENC(categorical_features=[features.columns.get_loc(name) for name in categories], **settings)
    levels = {name: pd.Categorical(features[name]) for name in categories}
    coded = features.assign(**{name: levels[name].codes.astype(float) for name in categories}).astype(float)
    numbers = [name for name in features.columns if name not in categories]
    low, span = coded[numbers].min(), (coded[numbers].max() - coded[numbers].min()).replace(0, 1)
    coded[numbers] = (coded[numbers] - low) / span
    made, labels = method.fit_resample(coded.to_numpy(), classes.to_numpy())
    new = pd.DataFrame(made[len(coded) :], columns=features.columns)
    new[numbers] = new[numbers] * span + low
    for name in categories:
        new[name] = np.asarray(levels[name].categories, dtype=object)[new[name].astype(int)]
    if job["task"] == "classification":
        new[job["target"]] = labels[len(coded) :]
    return new.sample(frac=1, random_state=job["seed"])  # the classes lie one after the other
