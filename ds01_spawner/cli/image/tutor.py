"""What `--guided` explains to who builds an image for the first time."""

IMAGE = """\
An image is a recipe that was cooked once: a Linux with Python, a framework and your packages, all \
installed and frozen. A container is one serving of it. You may start as many as you like, and each begins \
with just what the image holds.

Your files are no part of it. They lie in ~/workspace on the server and stay, whatever happens to images and \
containers. So choose here what your code needs to run, not the code.

Ctrl-C leaves at any question, and nothing is made. Enter takes what is proposed."""

LAYERS = """\
Images are made in layers, each on top of the one before:
  1. AIME's base image: the GPU libraries and a framework, such as PyTorch
  2. the notebook server, so that JupyterLab opens in your browser
  3. base packages, which nearly everybody needs
  4. the packages of a use case, such as computer vision
  5. your own packages
Who builds on the same lower layers shares them: they are built once, and then everybody's build only has \
to add what is different. That is why the general comes first and your own last."""

FRAMEWORK = """\
The framework is what your models are written in. PyTorch is what most research and most courses use. \
TensorFlow is met in older code and in industry. Where nothing speaks against it, take the first."""

VERSION = """\
The newest is right for new code. Take an older one if the code or the paper that you work with names it; \
2.8 is enough to mean the newest 2.8."""

OTHER_BASE = """\
Any image can be a base. Then you choose yourself what is in it, the GPU libraries among them, and nobody \
else shares its layers."""

PACKAGES = """\
What the base image has needs no mention here: PyTorch comes with the base. Everything below is added by \
pip, the system packages by apt.

A name alone, pandas, means the newest version. pandas==2.2.3 means exactly that one, pandas>=2,<3 any in \
between. For work that somebody shall be able to repeat, name versions."""

BASE_PACKAGES = """\
These are for working with tables, for plots and for classic machine learning. They take a few hundred \
megabytes, but nearly everybody has them, so they are mostly built already. Say yes if you are not sure."""

USE_CASE = """\
A use case is a list of packages that go together in one field. It saves you from collecting them, and \
shares one more layer with those who work on the same."""

OWN_PACKAGES = """\
What is still missing, such as wandb to follow your experiments. You can add more at any time: the image is \
then updated, and only this layer is built again."""

REQUIREMENTS = """\
Projects often come with a file that lists what they need, one package a line. It is copied, so later \
changes in it do not change the image."""

SYSTEM_PACKAGES = """\
Some programs are no Python packages: ffmpeg for videos, git-lfs for large repositories. Inside a running \
container you cannot install them, since you are not root there. So name them here."""

BUILD = """\
Two things are made now. First a folder with a Dockerfile, the recipe in Docker's words, and your lists of \
packages: text files that you can read, keep in git and edit. Then, from them, the image itself. That takes \
a few minutes, or seconds if all its layers are there already."""

DONE = """\
From here on:
  ds01 image list           shows your images
  ds01 image update NAME    builds one again, after you edited the files in its folder
  ds01 image delete NAME    removes one, when you need its space no more
A container keeps the image that it was made from. So after an update stop your server and start it anew."""
