"""The experts implementation "moebench" of Hugging Face transformers; to import this module registers it.

Then ``experts_implementation="moebench"`` is valid wherever transformers takes one: in ``from_pretrained`` and
``from_config``, in ``model.set_experts_implementation``, and for one backbone of several as in
``{"text_config": "moebench"}``. `use` sets it with options. docs/models.md lists the models.
"""

from .integrations.transformers.registration import register
from .integrations.transformers.registration import run_with_moebench as use

__all__ = ["use"]

register()
