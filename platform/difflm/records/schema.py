"""The schema of a table, in one import: fields, the record schema and its inference from a training split."""

from difflm.records.fields import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    JsonField,
    TextField,
)
from difflm.records.inference import SchemaConfig, infer_schema
from difflm.records.notices import Notice
from difflm.records.record_schema import SCHEMA_FORMAT_VERSION, RecordSchema

__all__ = [
    "SCHEMA_FORMAT_VERSION",
    "BooleanField",
    "CategoricalField",
    "ConstantField",
    "DatetimeField",
    "DecimalField",
    "Field",
    "IntegerField",
    "JsonField",
    "Notice",
    "RecordSchema",
    "SchemaConfig",
    "TextField",
    "infer_schema",
]
