from dataclasses import replace

from hannet import HanNet
from hannet.export import describe
from hannet.export.packaging import package


def test_texts_stay_within_their_lines():
    program = replace(describe(HanNet(2, 1, width=3, depth=2)), kind='a model of "x"\n\nname=other\n*/ @b $(shell,x)')
    files = package(program, "net", ["small"])
    assert "sentence=a model of" in files["library.properties"]
    assert files["library.properties"].count("\nname=") == 0
    assert files["zephyr/Kconfig"].count('"') == 2
    assert "$(" not in files["zephyr/Kconfig"]  # Kconfig runs $(shell,...)
    assert "\n- small\n" in files["README.md"]
    assert "CONFIG_HANNET_NET=y" in files["README.md"]
    assert "net_test.c" in files["CMakeLists.txt"]
    assert "add_library(hannet_net " in files["CMakeLists.txt"]  # CMake has targets such as `test` itself
