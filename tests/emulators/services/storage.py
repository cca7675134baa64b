#!/usr/bin/env python3
"""gcp-storage-emulator, and what the stock package lacks and Strata relies on:

- generation preconditions, checked when an upload begins and again when it ends (412);
- a text by which a bucket that does not exist is told from an object that does not;
- the headers of a read: generation, checksums, stored size; ranges from the end, and 416 beyond it;
- the part of the gRPC service that the clients use for listings, metadata and deletes;
- an address in the sessions of resumable uploads that has the port;
- how many operations of class A and B there were on a bucket's objects: GET /operations?bucket=BUCKET.

usage: storage.py --port PORT --grpc-port PORT --folder FOLDER
"""

import argparse
import datetime
import email.utils
import functools
import logging
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import grpc
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from google.cloud import _storage_v2 as v2
from google.protobuf import empty_pb2

# One request at a time: a precondition holds until the write that it allows is done.
LOCK = threading.RLock()
CHANGED = "At least one of the pre-conditions you specified did not hold."
NO_BUCKET = "The specified bucket does not exist."


# By bucket and class. The parts of a resumable upload are one operation, deletes are free.
OPERATIONS = Counter()


# --- Buckets and preconditions by HTTP


def missing_bucket(request, response, storage):
    if request.params["bucket_name"] in storage.buckets:
        return False
    response.status = HTTPStatus.NOT_FOUND
    detail = {"message": NO_BUCKET, "domain": "global", "reason": "notFound"}
    response.json({"error": {"code": 404, "message": NO_BUCKET, "errors": [detail]}})
    return True


def condition(request, name, header):
    in_query = request.query.get(name)
    if in_query:
        return int(in_query[0])
    in_header = request.get_header(header, None)
    return int(in_header) if in_header not in (None, "") else None


def holds(request, response, storage, name, reading=False):
    """Whether the request may go on; if not, the response says why."""
    try:
        found = storage.get_file_obj(request.params["bucket_name"], name)
        generation = int(found["generation"])
    except NotFound:
        if reading:
            return True  # The handler answers 404.
        generation = 0
    wanted = condition(request, "ifGenerationMatch", "x-goog-if-generation-match")
    unwanted = condition(request, "ifGenerationNotMatch", "x-goog-if-generation-not-match")
    if reading and unwanted == generation:
        response.status = HTTPStatus.NOT_MODIFIED
        return False
    if (wanted is None or wanted == generation) and unwanted != generation:
        return True
    response.status = HTTPStatus.PRECONDITION_FAILED
    detail = {"message": CHANGED, "domain": "global", "reason": "conditionNotMet", "locationType": "header", "location": "If-Match"}
    response.json({"error": {"code": 412, "message": CHANGED, "errors": [detail]}})
    return False


def object_name(request):
    if "name" in request.query:
        return request.query["name"][0]
    if "object_id" in request.params:
        return request.params["object_id"]
    data = request.data
    return ((data.get("meta") or {}).get("name") or data.get("name")) if isinstance(data, dict) else None


def guarded(handler, reading=False):
    @functools.wraps(handler)
    def guarded_handler(request, response, storage, *args, **kwargs):
        with LOCK:
            if missing_bucket(request, response, storage):
                return None
            name = object_name(request)
            if name and not holds(request, response, storage, name, reading):
                return None
            return handler(request, response, storage, *args, **kwargs)

    return guarded_handler


def guarded_part(handler):
    """A part of a resumable upload: the session's address still has the preconditions that it was begun with."""

    @functools.wraps(handler)
    def guarded_handler(request, response, storage, *args, **kwargs):
        with LOCK:
            try:
                session = storage.get_resumable_file_obj(request.query["upload_id"][0])
            except NotFound:
                session = None
            if session and not holds(request, response, storage, session["name"]):
                return None
            return handler(request, response, storage, *args, **kwargs)

    return guarded_handler


def with_headers(handler):
    @functools.wraps(handler)
    def handler_with_headers(request, response, storage, *args, **kwargs):
        result = handler(request, response, storage, *args, **kwargs)
        if int(response.status) not in (200, 206):
            return result
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        asked = (request.get_header("range", "") or "").strip()
        if last := re.fullmatch(r"bytes=-(\d+)", asked):
            size = len(response._content)
            taken = min(size, int(last[1]))
            response._content = response._content[size - taken :]
            response["Content-Range"] = f"bytes {size - taken}-{size - 1}/{size}"
            response.status = HTTPStatus.PARTIAL_CONTENT
        first = re.fullmatch(r"bytes=(\d+)-\d*", asked)
        if first and int(first[1]) >= int(found["size"]) > 0:
            response.status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            response._content = b""
            return result
        updated = datetime.datetime.fromisoformat(found["updated"].replace("Z", "+00:00"))
        response["x-goog-generation"] = found["generation"]
        response["x-goog-metageneration"] = found["metageneration"]
        response["x-goog-stored-content-length"] = found["size"]
        response["x-goog-stored-content-encoding"] = "identity"
        response["x-goog-storage-class"] = found["storageClass"]
        response["x-goog-hash"] = f"crc32c={found['crc32c']},md5={found['md5Hash']}"
        response["ETag"] = f'"{found["etag"]}"'
        response["Last-Modified"] = email.utils.format_datetime(updated, usegmt=True)
        return result

    return handler_with_headers


def counted(kind, handler):
    @functools.wraps(handler)
    def counted_handler(request, response, storage, *args, **kwargs):
        OPERATIONS[request.params["bucket_name"], kind] += 1
        return handler(request, response, storage, *args, **kwargs)

    return counted_handler


def operations(request, response, storage):
    (bucket,) = request.query["bucket"]
    response.json({kind: OPERATIONS[bucket, kind] for kind in "AB"})


objects.upload_partial = guarded_part(objects.upload_partial)
objects.insert = counted("A", guarded(objects.insert))
objects.xml_upload = counted("A", guarded(objects.xml_upload))
objects.delete = guarded(objects.delete)
objects.patch = counted("A", guarded(objects.patch))
objects.ls = counted("A", objects.ls)
objects.get = counted("B", guarded(objects.get, reading=True))
objects.download = counted("B", guarded(with_headers(objects.download), reading=True))

# It takes the handlers that it finds, so it comes after the changes.
from gcp_storage_emulator import server  # noqa: E402

server.HANDLERS = ((r"^/operations$", {"GET": operations}), *server.HANDLERS)

begin_request = server.Request.__init__


def begin_request_with_port(self, handler, method):
    # Google's Rust client sends `Host` without the port of its endpoint, and the emulator would send it back.
    begin_request(self, handler, method)
    self._base_url = f"http://127.0.0.1:{handler.server.server_address[1]}"
    self._full_url = self._base_url + self._path


server.Request.__init__ = begin_request_with_port


# --- The gRPC service


class Control:
    """GetObject, ListObjects and DeleteObject of google.storage.v2.Storage, over the same objects."""

    def __init__(self, storage):
        self.storage = storage

    def serve(self, port):
        methods = {
            "GetObject": (self.get, v2.GetObjectRequest),
            "ListObjects": (self.list, v2.ListObjectsRequest),
            "DeleteObject": (self.delete, v2.DeleteObjectRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(method, request.deserialize, self.serialize)
            for name, (method, request) in methods.items()
        }
        service = grpc.server(ThreadPoolExecutor(8))
        service.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.storage.v2.Storage", handlers),))
        if service.add_insecure_port(f"127.0.0.1:{port}") != port:
            raise SystemExit(f"port {port} is taken")
        service.start()
        return service

    @staticmethod
    def serialize(message):
        return message.SerializeToString() if hasattr(message, "SerializeToString") else type(message).serialize(message)

    def bucket(self, path, context):
        name = path.removeprefix("projects/_/buckets/")
        if name not in self.storage.buckets:
            context.abort(grpc.StatusCode.NOT_FOUND, NO_BUCKET)
        return name

    def found(self, bucket, name, request, context):
        try:
            found = self.storage.get_file_obj(bucket, name)
        except NotFound:
            context.abort(grpc.StatusCode.NOT_FOUND, f"No such object: {bucket}/{name}")
        if "if_generation_match" in request and request.if_generation_match != int(found["generation"]):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, CHANGED)
        return found

    @staticmethod
    def message(bucket, found):
        time = lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        return v2.Object(
            name=found["name"],
            bucket=f"projects/_/buckets/{bucket}",
            generation=int(found["generation"]),
            metageneration=int(found["metageneration"]),
            size=int(found["size"]),
            storage_class=found["storageClass"],
            create_time=time(found["timeCreated"]),
            update_time=time(found["updated"]),
        )

    def get(self, request, context):
        with LOCK:
            bucket = self.bucket(request.bucket, context)
            OPERATIONS[bucket, "B"] += 1
            return self.message(bucket, self.found(bucket, request.object_, request, context))

    def list(self, request, context):
        with LOCK:
            bucket = self.bucket(request.parent, context)
            if not request.page_token:
                OPERATIONS[bucket, "A"] += 1
            files, _ = self.storage.get_file_list(bucket, request.prefix or None, None)
        # Small pages, so that their seams are met in tests.
        size = min(request.page_size or 3, 3)
        files = sorted(files, key=lambda file: file["name"])
        start = int(request.page_token or 0)
        more = str(start + size) if start + size < len(files) else ""
        page = [self.message(bucket, file) for file in files[start : start + size]]
        return v2.ListObjectsResponse(objects=page, next_page_token=more)

    def delete(self, request, context):
        with LOCK:
            bucket = self.bucket(request.bucket, context)
            self.found(bucket, request.object_, request, context)
            self.storage.delete_file(bucket, request.object_)
        return empty_pb2.Empty()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--folder", required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    emulator = server.create_server("127.0.0.1", options.port, False, data_dir=options.folder)
    emulator.start()
    control = Control(emulator._storage).serve(options.grpc_port)
    control.wait_for_termination()


if __name__ == "__main__":
    main()
