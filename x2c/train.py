"""Train, sample and score one variant: `accelerate launch x2c/train.py --variant full`.

It is only a script, since `x2c.train` is the function of the same name; its code is in x2c/train_command.py.
"""

from __future__ import annotations

from x2c.core.script import begin

if __name__ == "x2c.train":
    # Python would put this module in the place of the function.
    raise ImportError("x2c/train.py is a script; x2c.train is a function: `from x2c import train`")

begin(__name__, "train.py")

from x2c.core.errors import exit_on_user_error
from x2c.train_command import main

if __name__ == "__main__":
    exit_on_user_error(main)
