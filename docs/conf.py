"""Sphinx configuration; scripts/test.sh builds with warnings as errors."""

import dataclasses

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from nnunet_dycon import __version__

project = "nnunet-dycon"
author = "the nnunet-dycon authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_custom_sections = ["Shape"]
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"nnunet-dycon {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"


def _inline_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _display_math(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f"<div>{tex2mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def _without_fields(app, what, name, obj, options, signature, return_annotation):
    """A dataclass lists its fields below: dozens of them make no readable signature."""
    return ("", "") if dataclasses.is_dataclass(obj) else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _without_fields)
    # formulas as MathML, which browsers draw themselves: Sphinx's own renderer loads MathJax from the internet
    app.add_html_math_renderer("mathml", (_inline_math, None), (_display_math, None))
