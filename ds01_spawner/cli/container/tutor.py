"""What the wizard of `ds01 container create` explains to a beginner, in guided mode."""

from __future__ import annotations

CONTAINER = """\
A container is a computer of your own inside this machine: with its own programs, started from an image, \
and thrown away without harm. What you keep lies outside of it, in your workspace and your home, and is \
there again in the next one.

The same container is open to you in the browser (JupyterLab) and here (ds01 container run)."""

CONTENTS = """\
An image says which programs are there. One with a framework such as PyTorch, and with JupyterLab, is made \
from AIME's catalog. If nobody has made the same one before, that takes some minutes; the next time it is \
there."""

PROFILE = """\
A profile is what your admin has put together for a kind of work. It fills in everything that you do not say \
yourself."""

FRAMEWORK = """\
If you do not know, take what the profile has. An image that you made with `ds01 image create` goes here \
as well."""

GPU = """\
GPUs are shared. Many are cut into slices (MIG), each with memory and computing units of its own, that \
nobody else disturbs. Yours is yours as long as the container runs; then somebody else may have it."""

SLICES = """\
Take the smallest one that your model fits into: it comes free sooner, and more of you can work. To write \
and try out a program you often need none at all."""

START = """\
When no GPU of this kind is free you wait in a queue, and are told your place. Limits say how many GPUs and \
containers you may have at once, and for how long."""
