"""The kernel side: loading, pins, tc attachment, map writes, events."""

from netpolicy.flow import Occasion
from nodeagent.datapath.abi_numbers import Reason
from nodeagent.datapath.control import Control
from nodeagent.datapath.datapath import Datapath
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.events import EventReader, FlowEvent
from nodeagent.datapath.filters import Filter
from nodeagent.datapath.flow_table import ConntrackEntry, Counters
from nodeagent.datapath.generations import GenerationLabel
from nodeagent.datapath.holdings import Holdings
from nodeagent.datapath.loading import LoadOutcome, ensure_loaded
from nodeagent.datapath.local_ends import LocalEnd
from nodeagent.datapath.peers import KernelEndpoint
from nodeagent.datapath.pins import DatapathConfig
from nodeagent.datapath.shadows import KernelDifference
from nodeagent.datapath.tunnelled import Tunnelled

__all__ = [
    "ConntrackEntry",
    "Control",
    "Counters",
    "Datapath",
    "DatapathConfig",
    "DatapathError",
    "EventReader",
    "Filter",
    "FlowEvent",
    "GenerationLabel",
    "Holdings",
    "KernelDifference",
    "KernelEndpoint",
    "LoadOutcome",
    "LocalEnd",
    "Occasion",
    "Reason",
    "Tunnelled",
    "ensure_loaded",
]
