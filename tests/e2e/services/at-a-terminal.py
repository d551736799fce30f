"""Runs the command in its arguments at a terminal of its own, presses Ctrl-C once it says `ready`, and prints what it
says. Ends with its exit code."""

import os
import pty
import sys

child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])

said, pressed = b"", False
while True:
    try:
        part = os.read(terminal, 1024)
    except OSError:  # the last one at the terminal has closed it
        break
    if not part:
        break
    said += part
    if b"ready" in said and not pressed:
        pressed = True
        os.write(terminal, b"\x03")

_, status = os.waitpid(child, 0)
print(said.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(status))
