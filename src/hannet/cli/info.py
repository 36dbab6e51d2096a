"""`hannet info`: versions, devices, and which code runs."""

import json
from typing import Any

from .console import print_table
from .options import AsJson


def info(as_json: AsJson = False) -> None:
    """Show versions, threads and devices, and which implementation runs for each device and dtype, and why."""
    import torch

    from ..ops import dispatch
    from ..storage.provenance import commit, describe_device, versions

    devices = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    facts: dict[str, Any] = {
        "versions": dict(versions()),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "devices": [describe_device(), *devices],
    }
    paths = [[str(part) for part in line] for line in dispatch.kernel_choices()]
    if as_json:
        keys = ("device", "dtype", "path", "reason")
        print(json.dumps(facts | {"paths": [dict(zip(keys, line, strict=True)) for line in paths]}))
        return
    print("versions:", ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print("commit:  ", facts["commit"] or "not in a checkout")
    print("devices: ", "; ".join(facts["devices"]))
    print("threads: ", facts["threads"])
    print_table(("device", "dtype", "path", "why"), paths)
