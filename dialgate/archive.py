"""An alias of `dialgate.decision_log.archive`, for scripts that run `python -m dialgate.archive`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("dialgate.decision_log.archive", run_name="__main__", alter_sys=True)
