"""The HTTP interface over a backend in this process: answers, formats, facts and refusals."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from difflm.records.relations.model import Relations
from difflm.records.schema import RecordSchema
from difflm.synthesis.plans.request import PlanRequest

Run = Callable[..., Any]
WHERE = 'age >= 40 and city == "Oslo"'


def test_rows_in_json_are_those_of_the_offline_job(ask: Run, offline: Run) -> None:
    answer = ask("POST", "/v1/samples", json={"n": 9, "seed": 4, "start": 3})
    assert answer.status_code == 200
    found = answer.json()
    expected = [index for index, _ in offline(range(3, 12), seed=4)]
    assert len(found["rows"]) + len(found["given_up"]) == 9
    assert [row["age"] for row in found["rows"]] == [row["age"] for _, row in offline(range(3, 12), seed=4)]
    assert found["given_up"] == [index for index in range(3, 12) if index not in expected]
    assert (found["bundle"], found["seed"], found["start"]) == ("tiny", 4, 3)
    assert len(found["version"]) == 12
    assert answer.headers["x-difflm-seed"] == "4"


def test_every_format_holds_the_same_rows(ask: Run) -> None:
    body = {"n": 12, "seed": 2, "where": WHERE, "columns": ["city", "age"]}
    answers = {
        name: ask("POST", "/v1/samples", json={**body, "format": name})
        for name in ("json", "ndjson", "sse", "csv", "parquet", "arrow")
    }
    rows = answers["json"].json()["rows"]
    assert rows
    assert all(list(row) == ["city", "age"] and row["city"] == "Oslo" and row["age"] >= 40 for row in rows)
    assert [json.loads(line) for line in answers["ndjson"].text.splitlines()] == rows
    events = [block.split("\n") for block in answers["sse"].text.strip().split("\n\n")]
    assert [row for name, data in events[:-1] for row in json.loads(data.removeprefix("data: "))["rows"]] == rows
    assert events[-1][0] == "event: end"
    assert pyarrow.csv.read_csv(io.BytesIO(answers["csv"].content)).to_pylist() == rows
    assert pq.read_table(io.BytesIO(answers["parquet"].content)).to_pylist() == rows
    assert pa.ipc.open_file(answers["arrow"].content).read_all().to_pylist() == rows


def test_without_a_seed_one_is_drawn_and_said(ask: Run) -> None:
    answers = [ask("POST", "/v1/samples", json={"n": 2}) for _ in range(2)]
    seeds = [answer.json()["seed"] for answer in answers]
    assert seeds[0] != seeds[1]
    again = ask("POST", "/v1/samples", json={"n": 2, "seed": seeds[0]})
    assert again.json() == answers[0].json()


def test_records_are_varied_imputed_and_encoded(ask: Run, some_rows: pa.Table) -> None:
    rows = some_rows.to_pylist()
    varied = ask("POST", "/v1/samples", json={"n": 4, "like": rows, "strength": 0.2, "seed": 1}).json()
    assert len(varied["rows"]) + len(varied["given_up"]) == 4
    gaps = [{**row, "city": None} for row in rows[:2]] + [{key: rows[2][key] for key in rows[2] if key != "city"}]
    filled = ask("POST", "/v1/impute", json={"rows": gaps, "columns": ["city"], "seed": 1}).json()
    assert filled["given_up"] == []
    assert [{**row, "city": None} for row in filled["rows"]] == [{**row, "city": None} for row in rows]
    assert all(row["city"] is not None for row in filled["rows"])
    encoded = ask("POST", "/v1/encode", json={"rows": rows}).json()["latents"]
    assert len(encoded) == 3
    assert len({len(latent) for latent in encoded}) == 1


def test_rows_keep_the_constraints_of_their_request(ask: Run, some_rows: pa.Table) -> None:
    kept = ["age >= 40", "age < 60"]
    rows = ask("POST", "/v1/samples", json={"n": 20, "seed": 4, "constraints": kept}).json()["rows"]
    assert rows
    assert all(40 <= row["age"] < 60 for row in rows)
    plain = ask("POST", "/v1/samples", json={"n": 20, "seed": 4, "constraints": []}).json()["rows"]
    assert plain == ask("POST", "/v1/samples", json={"n": 20, "seed": 4, "constraints": None}).json()["rows"]
    assert not all(40 <= row["age"] < 60 for row in plain)
    gaps = [{**row, "age": None} for row in some_rows.to_pylist()] * 3
    filled = ask("POST", "/v1/impute", json={"rows": gaps, "seed": 1, "constraints": kept}).json()["rows"]
    assert filled
    assert all(40 <= row["age"] < 60 for row in filled)


def test_expressions_are_read_off_the_event_loop(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of characters of them would keep every other request waiting."""
    places = list[bool]()
    real = PlanRequest.relations

    def relations(self: PlanRequest, schema: RecordSchema) -> Relations:
        places.append(threading.current_thread() is threading.main_thread())
        return real(self, schema)

    monkeypatch.setattr(PlanRequest, "relations", relations)
    assert ask("POST", "/v1/samples", json={"n": 1, "constraints": ["age >= 20"]}).status_code == 200
    assert places
    assert not any(places)


def test_the_document_says_what_constraints_are(ask: Run) -> None:
    models = ask("GET", "/openapi.json").json()["components"]["schemas"]
    for name in ("SampleBody", "ImputeBody"):
        described = models[name]["properties"]["constraints"]
        assert "what every row keeps across columns" in described["description"]
        assert described["anyOf"][0]["maxItems"] == 64


BAD_SAMPLES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "n", "required"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": -5}, "n", "greater than or equal to 1"),
    ({"n": 10**30}, "n", "less than or equal to"),
    ({"n": 501}, "n", "501 rows; 500 are the most"),
    ({"n": "5"}, "n", "valid integer"),
    ({"n": 1.5}, "n", "valid integer"),
    ({"n": True}, "n", "valid integer"),
    ({"n": 1, "seed": -1}, "seed", "greater than or equal to 0"),
    ({"n": 1, "seed": 2**63}, "seed", "less than"),
    ({"n": 1, "temperature": 0}, "temperature", "greater than 0"),
    ({"n": 1, "temperature": "warm"}, "temperature", "valid number"),
    ({"n": 1, "start": 999_999_999, "where": None}, "", ""),
    ({"n": 2, "start": 999_999_999}, "start", "is the most"),
    ({"n": 1, "format": "xlsx"}, "format", "'json', 'ndjson'"),
    ({"n": 1, "rows": 3}, "rows", "there is no such field"),
    ({"n": 1, "bundle": "../../etc/passwd"}, "bundle", "bundles are 'tiny'"),
    ({"n": 1, "where": "agee > 3"}, "where", "did you mean 'age'?"),
    ({"n": 1, "where": "age > 40 and age < 30"}, "where", "no value of 'age'"),
    ({"n": 1, "where": "(" * 3000}, "where", "cannot be read"),
    ({"n": 1, "where": "__import__('os')"}, "where", "is not a test"),
    ({"n": 1, "constraints": "age > 3"}, "constraints", "valid list"),
    ({"n": 1, "constraints": ["agee > 3"]}, "constraints", "there is no column 'agee'"),
    ({"n": 1, "constraints": ["age > 12345"]}, "constraints", "no row can satisfy it"),
    ({"n": 1, "constraints": ["age < wage", "wage < age"]}, "constraints", "cannot both hold in any row; drop one"),
    ({"n": 1, "constraints": ["fixed(city, label)"]}, "constraints", "learned from training rows; give it to run"),
    ({"n": 1, "constraints": ["(" * 3000]}, "constraints", "cannot be read"),
    ({"n": 1, "constraints": ["__import__('os')"]}, "constraints", "constraint \"__import__('os')\""),
    ({"n": 1, "constraints": ["age > 3"] * 65}, "constraints", "at most 64 items"),
    ({"n": 1, "constraints": ["age > 3" + " " * 2000] * 2}, "constraints", "4014 characters in all; 4000 are the most"),
    ({"n": 1, "constraints": [""]}, "constraints", "constraint ''"),
    ({"n": 1, "constraints": ["age >= 60"], "where": "age < 40"}, "where", "leaves no value of 'age'"),
    ({"n": 1, "columns": ["nope"]}, "columns", "there is no column 'nope'"),
    ({"n": 1, "columns": ["age", "age"]}, "columns", "named twice"),
    ({"n": 1, "columns": []}, "columns", "at least 1 item"),
    ({"n": 1, "like": []}, "like", "at least 1 item"),
    ({"n": 1, "like": [{"age": 3}]}, "like", "no column 'wage'"),
    ({"n": 1, "like": [{"age": [1]}]}, "like.0.age", "a cell is null, true"),
    ({"n": 1, "like": [{"age": 2**70}]}, "like.0.age", "a cell is null, true"),
    ({"n": 1, "like": [{"age": 3}], "where": "age > 3"}, "like", "leave out where"),
    ({"n": 1, "like": [{"age": 3}] * 21}, "like", "21 records; 20 are the most"),
    ({"n": 1, "like": [{"age": 3}], "strength": 1.5}, "strength", "less than or equal to 1"),
    ({"n": 1, "deadline_s": 0}, "deadline_s", "greater than 0"),
]


@pytest.mark.parametrize(("body", "field", "message"), BAD_SAMPLES)
def test_bad_input_is_refused_with_the_name_of_the_field(
    ask: Run, body: dict[str, Any], field: str, message: str
) -> None:
    answer = ask("POST", "/v1/samples", json=body)
    if not field:
        assert answer.status_code == 200
        return
    assert answer.status_code in (404, 422)
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message", "field"}
    assert error["field"] == field
    assert message in error["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"n": NaN}', 422),
        (b'{"n": 1, "temperature": NaN}', 422),
        (b'{"n": 1, "temperature": Infinity}', 422),
        (b'{"n": 1, "where": "\\ud800 > 3"}', 422),
        (b'{"n": 1, "\\ud800": 3}', 422),
        (b'{"n": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 15_000, 400),
        (b"[1]", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b" " * 20_001, 413),
    ],
)
def test_bodies_that_are_no_request_are_refused(ask: Run, content: bytes, status: int) -> None:
    answer = ask("POST", "/v1/samples", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "field"}


def test_what_does_not_fit_the_bundle_is_refused_by_impute_and_encode(ask: Run, some_rows: pa.Table) -> None:
    row = {**some_rows.to_pylist()[0], "city": None}
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("impute", {"rows": [{**row, "age": 12345}]}, "rows"),
        ("impute", {"rows": [{**row, "colour": "red"}]}, "rows"),
        ("impute", {"rows": [row], "columns": ["colour"]}, "columns"),
        ("impute", {"rows": [row] * 21}, "rows"),
        ("impute", {"rows": [row], "constraints": ["age > 12345"]}, "constraints"),
        ("impute", {"rows": [row], "constraints": ["age >"]}, "constraints"),
        ("impute", {"rows": []}, "rows"),
        ("encode", {"rows": [{"age": 3}]}, "rows"),
        ("encode", {"rows": [row], "n": 3}, "n"),
    ]
    for path, body, field in bad:
        answer = ask("POST", f"/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), body


def test_facts_and_health(ask: Run) -> None:
    schema = ask("GET", "/v1/schema?bundle=tiny").json()
    assert [field["name"] for field in schema["schema"]["fields"]][:2] == ["age", "wage"]
    assert ask("GET", "/v1/schema?bundle=other").status_code == 404
    assert ask("GET", "/v1/quality").json()["error"]["code"] == "no_evaluation"
    (bundle,) = ask("GET", "/v1/bundles").json()["bundles"]
    assert (bundle["bundle"], bundle["fault"], bundle["version"]) == ("tiny", None, schema["version"])
    assert ask("GET", "/healthz").json() == {"status": "ok"}
    assert ask("GET", "/readyz").json() == {"status": "ready"}
    assert ask("GET", "/v1/jobs/" + "0" * 32).status_code == 404
    assert ask("GET", "/v1/nothing").json()["error"]["code"] == "not_found"
    assert ask("GET", "/v1/samples").json()["error"]["code"] == "method_not_allowed"
    page = ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "https://" not in page.text
    assert "access-control-allow-origin" not in ask("GET", "/healthz", headers={"origin": "http://x"}).headers
    samples = ask("GET", "/openapi.json").json()["paths"]["/v1/samples"]["post"]
    assert {"200", "202", "401", "413", "422", "429", "503"} <= set(samples["responses"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs/" + "0" * 32, "GET, DELETE"),
        ("OPTIONS", "/v1/jobs/" + "0" * 32, "GET, DELETE"),
        ("POST", "/v1/jobs/" + "0" * 32 + "/data", "GET"),
        ("GET", "/v1/samples", "POST"),
        ("DELETE", "/readyz", "GET"),
        ("TRACE", "/", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_takes(
    ask: Run, method: str, path: str, allowed: str
) -> None:
    answer = ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == "method_not_allowed"
