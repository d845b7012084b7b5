# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Doors that are closed, a test each."""

import errno
import http.client
import http.server
import io
import socket
import threading
import time
from contextlib import suppress

import PIL.Image
import pytest
import uvicorn
from starlette.websockets import WebSocketDisconnect
from test_pipeline_lumos_video import CAPTIONS

from lumos_hf.serving.http_guards import ApiKeys
from lumos_hf.serving.job_store import JobStore, StoreLimits, StoreUnavailable, sqlite_url
from lumos_hf.serving.media_references import MediaFetcher, is_public, media_ending
from lumos_hf.serving.videos_api import ServerSettings

from .test_videos_api import as_data_url, png, refused


KEY, OTHER = "k" * 15 + "1", "k" * 15 + "2"
QUICK = {"prompt": CAPTIONS[0], "num_frames": 5, "num_inference_steps": 1}
LONG = {"prompt": CAPTIONS[0], "num_inference_steps": 400}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve):
    return serve(keys=ApiKeys([KEY, OTHER])).client


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("k" * 16), bearer(KEY[:-1]), bearer(""), {"Authorization": f"Basic {KEY}"}, bearer(KEY + "1")],
)
def test_nobody_comes_in_without_a_key(guarded, headers):
    for method, path in (("POST", "/v1/videos"), ("GET", "/v1/videos"), ("GET", "/v1/models"), ("GET", "/metrics")):
        answer = guarded.request(method, path, headers=headers)
        assert refused(answer)[0] == 401 and answer.headers["www-authenticate"] == "Bearer"
    with (
        pytest.raises(WebSocketDisconnect),
        guarded.websocket_connect("/v1/realtime/video", headers=headers),
    ):
        pass
    assert guarded.get("/health", headers=headers).status_code == 200


def test_each_key_sees_its_own_jobs_only(guarded):
    id = guarded.post("/v1/videos", json=QUICK, headers=bearer(KEY)).json()["id"]
    assert guarded.get(f"/v1/videos/{id}", headers=bearer(KEY)).status_code == 200
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        assert guarded.request(method, f"/v1/videos/{id}{path}", headers=bearer(OTHER)).status_code == 404
    body = {"prompt": CAPTIONS[0], "video": {"id": id}}
    assert guarded.post("/v1/videos/edits", json=body, headers=bearer(OTHER)).status_code == 404
    assert guarded.get("/v1/videos", headers=bearer(OTHER)).json()["data"] == []


def test_keys_come_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the cutting room\n{KEY}\n\n  {OTHER}  \n")
    keys = ApiKeys.from_file(file)
    owners = [keys.owner({"headers": [(b"authorization", f"Bearer {key}".encode())]}) for key in (KEY, OTHER, "x")]
    assert owners[2] is None and len(set(owners)) == 3
    assert KEY not in owners[0]
    for content, message in (
        ("", "at least one key"),
        ("short", "at least 16"),
        ("with a space in it", "number 1 is none"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=f"`api_key_file` must have .*{message}"):
            ApiKeys.from_file(file)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/../../etc/passwd",
        "/v1/videos/..%2F..%2Fjobs.sqlite/content",
        "/v1/videos/%2e%2e/content",
        "/v1/images/..%2f..%2fetc%2fpasswd/content",
        "/v1/videos/video_" + "0" * 48 + "%2f..%2f..%2fjobs.sqlite/content",
        "//etc/passwd",
    ],
)
def test_ids_are_never_paths(served, path):
    answer = served.client.get(path)
    assert answer.status_code == 404 and b"SQLite" not in answer.content and b"root:" not in answer.content
    with pytest.raises(ValueError, match="`id` must be one of a job"):
        served.files.path(path, "video.mp4")


def test_names_of_uploads_are_no_paths(served):
    files = {"input_reference": ("../../../evil.png", png(), "image/png")}
    job = served.client.post("/v1/videos", data=QUICK, files=files).json()
    served.wait(job["id"])
    names = {path.name for path in served.files.path(job["id"], "").iterdir()}
    assert names == {"input.png", "video.mp4", "thumbnail.png", "spritesheet.png"}


def test_other_sites_in_a_browser_get_nothing(served):
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answer = served.client.options("/v1/videos", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


class Host(http.server.BaseHTTPRequestHandler):
    """A host of pictures, and of redirects to itself."""

    def do_GET(self):
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/a.png")
            self.end_headers()
            return
        content = png() if self.path == "/a.png" else b"\x89PNG\r\n\x1a\n" + bytes(3000)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_fetched_from_allowed_hosts(serve, host):
    fetcher = MediaFetcher([host], is_allowed_address=lambda address: address == "127.0.0.1")
    served = serve(fetcher=fetcher)
    body = {**QUICK, "input_reference": {"image_url": f"http://{host}/a.png"}}
    served.wait(served.client.post("/v1/videos", json=body).json()["id"])


def test_no_url_of_another_host_is_fetched(served, host):
    for url in (f"http://{host}/a.png", "https://example.com/a.png", "http://[::1]/", "file:///etc/passwd"):
        answer = served.client.post("/v1/videos", json={**QUICK, "input_reference": {"image_url": url}})
        assert refused(answer)[:2] == (400, "input_reference")


@pytest.mark.parametrize(
    "url", ["http://{host}@elsewhere.example/", "http://elsewhere.example#{host}", "http://elsewhere.example/{host}"]
)
def test_a_host_is_what_a_url_leads_to(host, url):
    with pytest.raises(ValueError, match="does not fetch from the host 'elsewhere.example'"):
        MediaFetcher([host]).read(url.format(host=host))


def test_a_private_address_is_not_fetched_even_of_an_allowed_host(host):
    with pytest.raises(ValueError, match="has an address that is not public"):
        MediaFetcher([host]).read(f"http://{host}/a.png")


def test_a_redirect_is_not_followed(host):
    fetcher = MediaFetcher([host], is_allowed_address=lambda address: True)
    with pytest.raises(ValueError, match="answered with 302 and redirects are not followed"):
        fetcher.read(f"http://{host}/redirect")


def test_what_is_fetched_is_limited(host):
    fetcher = MediaFetcher([host], max_bytes=1000, is_allowed_address=lambda address: True)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        fetcher.read(f"http://{host}/large")
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        fetcher.read(as_data_url(bytes(2000)))


@pytest.mark.parametrize(
    ("scheme", "beginning"),
    [
        ("http", b""),
        ("http", b"HTTP/1.1 200 OK\r\nX: "),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        # A TLS record of 16,384 bytes.
        ("https", b"\x16\x03\x03\x40\x00"),
    ],
)
def test_a_host_that_answers_drop_by_drop_is_given_up(scheme, beginning):
    """In the answer, in its headers, or while TLS is agreed upon."""
    is_over = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(beginning)
            while not is_over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=[server], daemon=True).start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        fetcher = MediaFetcher([host], max_seconds=0.5, is_allowed_address=lambda address: True)
        begin = time.monotonic()
        with pytest.raises(ValueError, match="not read within 0.5 seconds"):
            fetcher.read(f"{scheme}://{host}/a.png")
        assert time.monotonic() - begin < 5
        is_over.set()


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::", False),
    ],
)
def test_public_addresses(address, is_open):
    assert is_public(address) is is_open


def test_files_are_known_by_their_contents(served, tmp_path):
    with pytest.raises(ValueError, match="no image or video of the kinds"):
        media_ending(io.BytesIO(b"<svg xmlns='http://www.w3.org/2000/svg'/>"))
    playlist = b"#EXTM3U\nhttp://127.0.0.1/secret\n"
    answer = served.client.post("/v1/videos/edits", data={"prompt": "a"}, files={"video": ("a.mp4", playlist)})
    assert refused(answer)[:2] == (400, "video")


def test_a_picture_with_too_many_pixels_is_refused(served):
    buffer = io.BytesIO()
    PIL.Image.new("1", (8192, 4096)).save(buffer, "PNG")
    answer = served.client.post("/v1/videos", data=QUICK, files={"input_reference": buffer.getvalue()})
    assert refused(answer)[0] == 400 and "8192x4096 pixels" in refused(answer)[2]


@pytest.fixture
def listening(serve):
    """The port of a server with small limits, and what belongs to it."""
    servers = []

    def start(**options):
        settings = ServerSettings(max_upload_bytes=100_000, upload_timeout=1.0)
        served = serve(settings=settings, **options)
        config = uvicorn.Config(served.client.app, port=0, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        servers.append((server, thread))
        return server.servers[0].sockets[0].getsockname()[1], served

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


def test_an_upload_of_10_gb_is_refused_before_it_is_read(listening):
    port, served = listening()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/v1/videos")
    connection.putheader("Content-Length", str(10 * 10**9))
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_an_upload_that_does_not_say_its_size_is_cut_off(listening):
    port, served = listening()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = (bytes(10_000) for _ in range(11))
    connection.request("POST", "/v1/videos", body, {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_slow_client_is_sent_away_and_delays_nobody(listening):
    port, served = listening()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(
            b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        other = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        other.request("GET", "/health")
        assert other.getresponse().status == 200
        other.close()
        assert b" 408 " in slow.recv(100)


def test_a_client_that_leaves_in_the_middle_harms_nobody(listening):
    port, served = listening()
    id = served.make()
    for request in (
        f"GET /v1/videos/{id}/content HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request.encode())
    served.make(**QUICK)


def test_who_leaves_a_synchronous_call_has_its_job_cancelled(listening):
    port, served = listening()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = b'{"prompt": "waves", "num_inference_steps": 400, "num_frames": 17}'
    connection.request("POST", "/v1/videos/sync", body, {"Content-Type": "application/json"})
    while not served.store.count().get("in_progress"):
        time.sleep(0.01)
    connection.close()
    deadline = time.monotonic() + 20
    while served.store.count() != {"deleted": 1}:
        assert time.monotonic() < deadline, served.store.count()
        time.sleep(0.05)
    served.make(**QUICK)


def test_a_full_queue_says_when_to_come_again(serve, tmp_path):
    limits = StoreLimits(max_queued=3, max_queued_per_client=2)
    served = serve(JobStore(sqlite_url(tmp_path / "small.sqlite"), limits))
    answers = [served.client.post("/v1/videos", json=LONG) for _ in range(4)]
    last = answers[-1]
    assert last.status_code == 429 and int(last.headers["retry-after"]) >= 1
    assert refused(last)[2] == "2 of your jobs are waiting already."
    for answer in answers:
        if answer.status_code == 200:
            served.client.delete(f"/v1/videos/{answer.json()['id']}")
    served.make(**QUICK)


def test_a_full_disk_refuses_new_jobs_and_loses_none(serve, tmp_path, monkeypatch):
    served = serve(JobStore(sqlite_url(tmp_path / "small.sqlite"), StoreLimits(max_bytes=5000)))
    id = served.make()
    assert served.store.num_bytes() > 5000
    answer = served.client.post("/v1/videos", json=QUICK)
    assert refused(answer)[0] == 507 and "5000 bytes" in refused(answer)[2]
    served.client.delete(f"/v1/videos/{id}")
    served.make(**QUICK)


def test_a_result_that_finds_no_room_is_written_when_there_is_some(served, monkeypatch):
    is_full = threading.Event()
    is_full.set()
    write = served.files.write_video

    def write_if_there_is_room(*arguments):
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(served.files, "write_video", write_if_there_is_room)
    id = served.client.post("/v1/videos", json=QUICK).json()["id"]
    while served.client.get("/health").json()["status"] == "ok":
        time.sleep(0.02)
    assert "No space left" in served.client.get("/health").json()["problem"]
    assert served.client.get(f"/v1/videos/{id}").json()["status"] == "in_progress"
    is_full.clear()
    served.wait(id)
    assert served.client.get("/health").json()["status"] == "ok"


@pytest.mark.slow
def test_a_database_that_goes_away_is_said_and_nothing_is_lost(serve, postgresql):
    served = serve(JobStore(postgresql.new_database()))
    id = served.make()
    postgresql.stop()
    try:
        for method, path in (("GET", f"/v1/videos/{id}"), ("GET", "/health"), ("POST", "/v1/videos")):
            answer = served.client.request(method, path, json=QUICK if method == "POST" else None)
            assert refused(answer)[0] == 503 and int(answer.headers["retry-after"]) > 0
    finally:
        postgresql.resume()
    assert served.wait(id)["id"] == id
    served.make(**QUICK)


@pytest.mark.slow
def test_a_job_that_runs_while_the_database_is_away_is_finished(serve, postgresql):
    served = serve(JobStore(postgresql.new_database()))
    id = served.client.post("/v1/videos", json={**LONG, "num_inference_steps": 40}).json()["id"]
    while served.worker.progress(id) is None:
        time.sleep(0.01)
    postgresql.stop()
    time.sleep(1)
    with pytest.raises(StoreUnavailable):
        served.store.count()
    postgresql.resume()
    assert served.wait(id)["status"] == "completed"
    assert served.store.get(id).attempts == 1
