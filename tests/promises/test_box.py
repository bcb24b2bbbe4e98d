"""The README's table of everything in the box lists each public name with the first line of its docstring."""

import subprocess
import sys

from support import tables
from support.box import table


def test_the_table_in_the_readme_has_every_public_name():
    assert tables.written("box") == table(), tables.how_to_write("box")


def test_importing_the_box_imports_no_heavy_package():
    heavy = ["rich.progress", "tensorboard", "torchvision", "torchmetrics", "ignite", "hypothesis"]
    code = f"import sys, camshaft.handlers, camshaft.training; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr
