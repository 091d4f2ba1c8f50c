"""Python's gRPC client, one case per run. Prints what it saw as one line of JSON; the Rust side judges.

client.py TARGET CASE [ARGUMENT...]
"""

import base64
import json
import queue
import sys
import threading

import grpc
from grpc_status import rpc_status
from mainstay.demo.v1 import greeter_pb2 as pb
from mainstay.demo.v1 import greeter_pb2_grpc

# A bound on every call that has none of its own, so that nothing hangs.
PATIENCE = 20

OPTIONS = [
    # What the proxy does not save must be seen to fail.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


def main():
    target, case, *arguments = sys.argv[1:]
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        seen = CASES[case](greeter_pb2_grpc.GreeterStub(channel), *arguments)
    print(json.dumps(seen), flush=True)


def request(name, replies=0):
    return pb.HelloRequest(name=name, replies=replies)


def metadata(pairs):
    """As [key, value] pairs; binary values in base64. Without what gRPC itself adds."""
    own = [(key, value) for key, value in pairs or () if key not in ("user-agent", "date")]
    return [[key, base64.b64encode(value).decode() if isinstance(value, bytes) else value] for key, value in own]


def ending(call):
    return {"code": call.code().value[0], "message": call.details()}


def unary(stub):
    sent = (("echo", "plain value"), ("echo-bin", bytes(range(256))))
    reply, call = stub.SayHello.with_call(request("Ada"), timeout=PATIENCE, metadata=sent)
    return {
        "message": reply.message,
        "served_by": reply.served_by,
        "headers": metadata(call.initial_metadata()),
        "status": ending(call),
    }


def server_stream(stub, replies):
    call = stub.SayHelloStream(request("Ada", int(replies)), timeout=PATIENCE)
    messages = [reply.message for reply in call]
    return {"messages": messages, "status": ending(call)}


def client_stream(stub, count):
    names = (request(f"n{n}") for n in range(int(count)))
    reply, call = stub.GreetMany.with_call(names, timeout=PATIENCE)
    return {"message": reply.message, "status": ending(call)}


def chat(stub, count):
    """Ping-pong: the next message leaves only when the last one has been answered, so nothing may be held back."""
    names = queue.Queue()
    call = stub.Chat(iter(names.get, None), timeout=PATIENCE)
    messages = []
    for n in range(int(count)):
        names.put(request(f"n{n}"))
        messages.append(next(call).message)
    names.put(None)
    rest = [reply.message for reply in call]
    return {"messages": messages, "rest": rest, "status": ending(call)}


def held(stub):
    """A chat that goes on until a line comes in on stdin."""
    names = queue.Queue()
    call = stub.Chat(iter(names.get, None), timeout=PATIENCE)
    names.put(request("first"))
    messages = [next(call).message]
    print("running", flush=True)
    sys.stdin.readline()
    names.put(request("last"))
    messages.append(next(call).message)
    names.put(None)
    rest = [reply.message for reply in call]
    return {"messages": messages, "rest": rest, "status": ending(call)}


def errors(stub, *texts):
    """Every code but OK with every text, as a unary call and after two messages of a stream."""
    seen = []
    for text in texts:
        for code in range(1, 17):
            name = f"error:{code}:{text}"
            for kind in ("unary", "stream"):
                seen.append({"kind": kind, "asked": [code, text], **error(stub, kind, name)})
    return seen


def error(stub, kind, name):
    messages = 0
    try:
        if kind == "unary":
            stub.SayHello(request(name), timeout=PATIENCE)
        else:
            for _ in stub.SayHelloStream(request(name, 2), timeout=PATIENCE):
                messages += 1
    except grpc.RpcError as failed:
        # Checks by itself that the details agree with the code and the message.
        details = rpc_status.from_call(failed)
        inner = pb.HelloReply()
        unpacked = details is not None and len(details.details) == 1 and details.details[0].Unpack(inner)
        return {
            "messages": messages,
            "status": ending(failed),
            "details": [details.code, details.message] if details else None,
            "detail": [inner.message, inner.served_by] if unpacked else None,
            "trailers": [pair for pair in metadata(failed.trailing_metadata()) if pair[0].startswith("served-by")],
        }
    return {"messages": messages, "status": {"code": 0, "message": ""}}


def deadline(stub, seconds):
    try:
        stub.SayHello(request("Ada"), timeout=float(seconds))
    except grpc.RpcError as failed:
        return {"status": ending(failed)}
    return {"status": {"code": 0, "message": ""}}


def large(stub, size):
    name = "x" * int(size)
    reply = stub.SayHello(request(name), timeout=PATIENCE)
    return {"same": reply.message == f"Hello, {name}!", "length": len(reply.message)}


def load(stub, calls, callers):
    """So many calls by so many callers at once. Tells how far it is, so that the Rust side knows when to strike."""
    todo = iter(range(int(calls)))
    lock = threading.Lock()
    served, failed, done = {}, [], 0

    def caller():
        nonlocal done
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            try:
                by, problem = stub.SayHello(request(f"n{number}"), timeout=PATIENCE).served_by, None
            except grpc.RpcError as error:
                by, problem = None, {"call": number, **ending(error)}
            with lock:
                done += 1
                if problem:
                    failed.append(problem)
                else:
                    served[by] = served.get(by, 0) + 1
                if done % 100 == 0:
                    print(f"done {done}", flush=True)

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(int(callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"calls": done, "served": served, "failed": failed}


CASES = {
    "unary": unary,
    "server-stream": server_stream,
    "client-stream": client_stream,
    "chat": chat,
    "held": held,
    "errors": errors,
    "deadline": deadline,
    "large": large,
    "load": load,
}

if __name__ == "__main__":
    main()
