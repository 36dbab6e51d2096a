import io
import tracemalloc

from hannet.tabular.sampling import BLOCK, read_up_to


def test_so_much_is_read_and_no_more_memory_is_taken():
    stream = io.BufferedReader(io.BytesIO(b"a,b\n" * 100))
    tracemalloc.start()
    assert read_up_to(stream, 2**31) == b"a,b\n" * 100
    assert tracemalloc.get_traced_memory()[1] < 2 * BLOCK + 2**20
    tracemalloc.stop()


def test_the_rest_stays_in_the_stream():
    stream = io.BytesIO(b"0123456789")
    assert read_up_to(stream, 4) == b"0123"
    assert stream.read() == b"456789"
    assert read_up_to(stream, 4) == b""
