"""Names of the record's parts for those who read it."""

from bench.schema.metric import (
    CLASS_FALSE_ALARM,
    CLASS_RECALL,
    CLASS_SHIFT,
    CLASS_SPREAD,
    CLASS_THRESHOLD,
    MAP_MAX,
    RAW_ERROR,
)
from bench.schema.record import DEVICE_PEAK, FEATURES, MICRO_BATCH, PER_STEP, SCHEMA, TIMES, Capability, Cost, Status
from bench.schema.spec import Spec, key_of

__all__ = ["CLASS_FALSE_ALARM", "CLASS_RECALL", "CLASS_SHIFT", "CLASS_SPREAD", "CLASS_THRESHOLD"]
__all__ += ["DEVICE_PEAK", "FEATURES", "MAP_MAX", "MICRO_BATCH", "PER_STEP", "RAW_ERROR", "SCHEMA", "TIMES"]
__all__ += ["Capability", "Cost", "Spec", "Status", "key_of"]
