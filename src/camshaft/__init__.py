from camshaft.engine import Engine, RemovableEventHandle
from camshaft.events import BackpropEvents, EventEnum, Events, event
from camshaft.loop import DATA, Loop, LoopError, Mark, Nested, Phase, Step, every
from camshaft.machine import EventOrderError
from camshaft.state import State
