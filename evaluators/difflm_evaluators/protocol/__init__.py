"""The protocol of TabSyn, TabDiff and TabPC: its column kinds, splits, measures and published figures."""

from difflm_evaluators.protocol.figures import Figure, ProtocolConfig
from difflm_evaluators.protocol.protocol import ProtocolResult, evaluate_protocol
from difflm_evaluators.protocol.spec import DATASETS, ProtocolSpec, infer_spec, named_spec, protocol_split

__all__ = [
    "DATASETS",
    "Figure",
    "ProtocolConfig",
    "ProtocolResult",
    "ProtocolSpec",
    "evaluate_protocol",
    "infer_spec",
    "named_spec",
    "protocol_split",
]
