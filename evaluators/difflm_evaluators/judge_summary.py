"""A judge's scores as a report shows them, read from the judge.json that `difflm judge` left."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from difflm.errors import DataError
from difflm_evaluators.report_file import JudgeEntry, ScoreEntry

JUDGE_FILE = "judge.json"


def read_judgement(folder: Path) -> JudgeEntry:
    """The summary of a judge's folder.

    Raises:
        DataError: there is no judge.json, or it has another layout.
    """
    path = folder / JUDGE_FILE
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        account, evaluation = data["account"], data["evaluation"]
        return JudgeEntry(
            title=data["title"],
            protocol=evaluation["name"],
            model=data["settings"]["model"],
            complete=data["complete"],
            questions=account["questions"],
            answered=account["answered"],
            scores=tuple(ScoreEntry.model_validate(score) for score in evaluation["scores"]),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the folder that difflm judge wrote with --out") from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is no judge's report ({reason}); run difflm judge again") from None
