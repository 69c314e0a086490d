"""What `ds01 project init` and `ds01 user setup` explain to a beginner, in guided mode."""

from __future__ import annotations

WELCOME = """\
This machine is shared. You work in containers, which hold the programs, and keep your files in ~/workspace, \
which all your containers see. Next you see what you may have at once; then your first project is made.

You can run this as often as you like: what is there already is kept."""

PROJECT = """\
A project is one piece of work: a folder for its code, an image with its programs, and a container that runs \
them. All three have the same name, so that you find them again.

Ctrl-C leaves at any question, and nothing is made. Enter takes what is proposed."""

NAME = """\
Name it after the work, not after yourself: course-ml, thesis, fraud-detection."""

CONTENTS = """\
AIME's base image brings the GPU libraries and a framework. On top come the packages of a use case, and your \
own. Your own go into requirements.txt, where you can add more later."""

MAKE = """\
These steps follow one after another. If one fails, the earlier ones stay, and the same command goes on from \
there."""
