"""A benchmark that does what it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

match sys.argv[1:]:
    case ["fail"]:
        print('{"a": 1}')
        sys.exit("the disk is full")
    case ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    case ["nonsense"]:
        print("all went well")
    case ["hang", file]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(file).write_text(str(child.pid))
        time.sleep(600)
    case options:
        print(json.dumps({"machine": "m", "options": options, "speed": {"value": 2, "goal": ">= 1", "reached": True}}))
