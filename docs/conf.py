"""Settings of the documentation: MyST pages whose cells are executed, and a reference made from docstrings."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Ornstein"
author = "The Ornstein authors"
copyright = f"2026, {author}"
version = release = installed_version("ornstein")

extensions = [
    "myst_nb",
    "plain_docstrings",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_ext", "_templates"]
templates_path = ["_templates"]

# The kernels inherit this: progress bars need no widgets here.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"

# Pages are run afresh in every build; a cell that fails, fails the build. Training reports on stderr.
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "Ornstein"
html_static_path = []
pygments_style = "tango"
