import json, shutil, subprocess, sys
from test_training_killed import TRAIN, TESTS
def test_x(tiny_run):
    for seed in range(7, 14):
        for stage in ("checkpoints", "training"):
            shutil.rmtree(tiny_run.stage(stage), ignore_errors=True)
        r = subprocess.run([sys.executable, "-c", TRAIN, str(tiny_run.path), str(TESTS), str(seed)], capture_output=True, text=True)
        print(seed, r.stdout, r.stderr[-300:])
