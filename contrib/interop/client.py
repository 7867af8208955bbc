"""walrus-python, a client of the network's HTTP API, against `devnet`."""

import io
import pathlib
import sys
import tempfile
import urllib.request

from walrus import WalrusAPIError, WalrusClient

url = sys.argv[1]
client = WalrusClient(publisher_base_url=url, aggregator_base_url=url)


def say(text):
    print(f"walrus-python: {text}")


def same(got, wanted, what):
    if got != wanted:
        sys.exit(f"walrus-python: {what}: {got!r:.80} instead of {wanted!r:.80}")


def fails(code, what, work):
    try:
        work()
    except WalrusAPIError as error:
        same(error.code, code, what)
        return error
    sys.exit(f"walrus-python: {what}: did not fail")


def order(*faults):
    body = "\n".join(faults).encode()
    request = urllib.request.Request(f"{url}/devnet/faults", data=body, method="PUT")
    urllib.request.urlopen(request).read()


with tempfile.TemporaryDirectory() as dir:
    dir = pathlib.Path(dir)
    content = bytes(range(256)) * 500
    created = client.put_blob(content, encoding_type="RS2", epochs=2, deletable=True)
    blob = created["newlyCreated"]["blobObject"]
    same(blob["size"], len(content), "size")
    same(blob["storage"]["endEpoch"] - blob["storage"]["startEpoch"], 2, "epochs")
    again = client.put_blob(content)
    same(again["alreadyCertified"]["blobId"], blob["blobId"], "blob ID")

    (dir / "in").write_bytes(b"from a file")
    from_file = client.put_blob_from_file(str(dir / "in"), send_object_to="0x5")
    from_file = from_file["newlyCreated"]["blobObject"]["blobId"]
    from_stream = client.put_blob_from_stream(io.BytesIO(b"from a stream"))
    from_stream = from_stream["newlyCreated"]["blobObject"]["blobId"]
    say("stored bytes, a file and a stream")

    same(client.get_blob(blob["blobId"]), content, "get_blob")
    same(client.get_blob_by_object_id(blob["id"]), content, "get_blob_by_object_id")
    same(client.get_blob_as_stream(from_stream).read(), b"from a stream", "get_blob_as_stream")
    client.get_blob_as_file(from_file, str(dir / "out"))
    same((dir / "out").read_bytes(), b"from a file", "get_blob_as_file")
    headers = {name.lower(): value for name, value in client.get_blob_metadata(blob["blobId"]).items()}
    same(headers["etag"], blob["blobId"], "etag")
    same(headers["content-length"], str(len(content)), "content-length")
    say("read them by ID and by object, as bytes, stream and file, and their headers")

    error = fails(404, "unknown blob", lambda: client.get_blob("A" * 43))
    same((error.status, error.details[0]["reason"]), ("NOT_FOUND", "BLOB_NOT_FOUND"), "404")
    error = fails(404, "unknown object", lambda: client.get_blob_by_object_id("0x" + "ab" * 32))
    fails(400, "no blob ID", lambda: client.get_blob("short"))
    error = fails(400, "too many epochs", lambda: client.put_blob(b"x", epochs=54))
    same(error.status, "INVALID_ARGUMENT", "400")
    fails(400, "no such encoding", lambda: client.put_blob(b"x", encoding_type="RS1"))
    fails(413, "too large", lambda: client.put_blob(bytes((10 << 20) + 1)))
    for code, status in [(503, "UNAVAILABLE"), (500, "INTERNAL"), (403, "SIZE_EXCEEDED")]:
        order(f"status={code},first=1,method=GET")
        error = fails(code, "ordered", lambda: client.get_blob(blob["blobId"]))
        same(error.status, status, "ordered")
    order("status=451,first=1", "status=429,first=2,method=PUT")
    error = fails(451, "forbidden", lambda: client.get_blob(blob["blobId"]))
    same(error.details[0]["reason"], "FORBIDDEN_BLOB", "451")
    fails(429, "too many", lambda: client.put_blob(b"y"))
    order("cut=1000")
    fails(500, "a broken connection", lambda: client.get_blob(blob["blobId"]))
    order()
    same(client.get_blob(blob["blobId"]), content, "after the faults")
    say("12 failures arrive as its errors")
