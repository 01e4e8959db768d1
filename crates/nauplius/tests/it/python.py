"""Drives a cluster as a Python program would, with the stock client. Says what it saw, one JSON object a line; the test compares."""

import json
import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

config.load_kube_config(config_file=sys.argv[1])
core = client.CoreV1Api()
NS = "default"


def saw(what, value):
    print(json.dumps({"what": what, "value": value}), flush=True)


def refusal(what, call, *arguments):
    try:
        call(*arguments)
    except ApiException as error:
        status = json.loads(error.body)
        saw(what, [error.status, status["reason"], status["message"]])
    else:
        saw(what, "not refused")


def config_maps():
    made = core.create_namespaced_config_map(
        NS, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a", labels={"app": "x"}), data={"k": "v"})
    )
    saw("merge", core.patch_namespaced_config_map("a", NS, {"data": {"k": "w", "l": "m"}}).data)
    saw("json", core.patch_namespaced_config_map("a", NS, [{"op": "remove", "path": "/data/l"}]).data)
    events = []
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_config_map,
        NS,
        resource_version=made.metadata.resource_version,
        label_selector="app=x",
        timeout_seconds=60,
    ):
        events.append([event["type"], event["object"].data])
        if len(events) == 2:
            core.delete_namespaced_config_map("a", NS)
        if event["type"] == "DELETED":
            watcher.stop()
    saw("watch", events)


def pod():
    core.create_namespaced_pod(
        NS,
        {
            "metadata": {"name": "py"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "demo",
                        "image": "nauplius.local/demo:1",
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
                    }
                ],
            },
        },
    )
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_pod, NS, field_selector="metadata.name=py", timeout_seconds=60
    ):
        statuses = event["object"].status.container_statuses
        if statuses and statuses[0].ready:
            watcher.stop()
    saw("log", core.read_namespaced_pod_log("py", NS, tail_lines=1))
    execute = core.connect_get_namespaced_pod_exec
    shell = ["sh", "-c", "echo out; echo err >&2"]
    both = stream(execute, "py", NS, command=shell, stderr=True, stdin=False, stdout=True, tty=False)
    saw("exec", sorted(both.split()))
    shell = ["sh", "-c", "read word; echo got $word; exit 3"]
    open_stream = stream(
        execute, "py", NS, command=shell, stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False
    )
    open_stream.write_stdin("it\n")
    open_stream.run_forever(timeout=60)
    saw("exec with input", [open_stream.read_stdout(), open_stream.returncode])
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, "py", NS, ports="8080")
    connection = forwarded.socket(8080)
    connection.settimeout(60)
    connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    saw("port-forward", connection.recv(4096).decode().splitlines()[0])
    watcher = watch.Watch()
    version = core.delete_namespaced_pod("py", NS).metadata.resource_version
    for event in watcher.stream(
        core.list_namespaced_pod,
        NS,
        field_selector="metadata.name=py",
        resource_version=version,
        timeout_seconds=60,
    ):
        if event["type"] == "DELETED":
            watcher.stop()
            saw("deleted", event["object"].metadata.name)


def dynamic_client():
    kinds = dynamic.DynamicClient(client.ApiClient()).resources
    maps = kinds.get(api_version="v1", kind="ConfigMap")
    saw("dynamic", maps.create(namespace=NS, body={"metadata": {"name": "d"}, "data": {"a": "1"}}).data.a)
    saw("discovered", kinds.get(api_version="apps/v1", kind="Deployment").name)


def owners(instance):
    fields = instance.to_dict()["metadata"]["managedFields"]
    return [[entry["manager"], entry["operation"], entry.get("subresource", "")] for entry in fields]


def applies():
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")

    def apply(manager, data, force=None):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data}
        return maps.server_side_apply(body=body, namespace=NS, field_manager=manager, force_conflicts=force)

    apply("one", {"a": "1", "b": "1"})
    both = apply("two", {"b": "1", "c": "1"})
    saw("apply shares", [both.data.to_dict(), owners(both)])
    refusal("apply conflicts", apply, "two", {"a": "2"})
    saw("apply forces", apply("two", {"a": "2"}, True).data.to_dict())
    saw("apply lets go", apply("one", {}).data.to_dict())


DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.py.example.com"},
    "spec": {
        "group": "py.example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "default": 1},
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                },
                            },
                            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                        },
                    }
                },
            }
        ],
    },
}


def thing(**spec):
    return {"apiVersion": "py.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


def custom_resources():
    every = dynamic.DynamicClient(client.ApiClient())
    definitions = every.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=DEFINITION)
    watcher = watch.Watch()
    name = DEFINITION["metadata"]["name"]
    for event in definitions.watch(name=name, timeout=60, watcher=watcher):
        conditions = event["object"].to_dict().get("status", {}).get("conditions", [])
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            watcher.stop()
    things = every.resources.get(api_version="py.example.com/v1", kind="Thing")
    made = things.create(body=thing(tags=["a"]), namespace=NS)
    saw("thing", made.spec.to_dict())
    merge = {"content_type": "application/merge-patch+json"}
    things.patch(body=thing(size=2), namespace=NS, **merge)
    replaced = things.get(name="t", namespace=NS).to_dict()
    replaced["spec"]["size"] = 3
    things.replace(body=replaced, namespace=NS)
    things.status.patch(body={"metadata": {"name": "t"}, "status": {"ready": True}}, namespace=NS, **merge)
    applied = things.server_side_apply(body=thing(tags=["b"]), namespace=NS, field_manager="applier")
    saw("thing applied", [applied.spec.to_dict(), applied.status.to_dict()])
    refusal("thing conflicts", lambda: things.server_side_apply(body=thing(size=9), namespace=NS, field_manager="applier"))
    saw("things", [item.metadata.name for item in things.get(namespace=NS).items])
    events = []
    watcher = watch.Watch()
    since = made.metadata.resourceVersion
    for event in things.watch(namespace=NS, resource_version=since, timeout=60, watcher=watcher):
        seen = event["object"].to_dict()
        events.append([event["type"], seen["spec"]["size"], seen["spec"]["tags"], "status" in seen])
        if len(events) == 4:
            things.delete(name="t", namespace=NS)
        if event["type"] == "DELETED":
            watcher.stop()
    saw("things watched", events)
    definitions.delete(name=name)


def with_token(token):
    admin = client.Configuration.get_default_copy()
    own = client.Configuration()
    own.host, own.ssl_ca_cert = admin.host, admin.ssl_ca_cert
    own.api_key = {"authorization": "Bearer " + token}
    return client.ApiClient(own)


def refusals():
    ask = {"spec": {"expirationSeconds": 600}}
    token = core.create_namespaced_service_account_token("default", NS, ask).status.token
    account = with_token(token)
    review = client.AuthenticationV1Api(account).create_self_subject_review({})
    saw("whoami", review.status.user_info.username)
    refusal("404", core.read_namespaced_config_map, "none", NS)
    refusal("409 exists", core.create_namespaced_config_map, NS, {"metadata": {"name": "d"}})
    stale = {"metadata": {"name": "d", "resourceVersion": "1"}}
    refusal("409 conflict", core.replace_namespaced_config_map, "d", NS, stale)
    imageless = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    refusal("422", core.create_namespaced_pod, NS, imageless)
    refusal("403", client.CoreV1Api(account).list_namespaced_secret, NS)
    refusal("401", client.CoreV1Api(with_token("nonsense")).list_namespaced_secret, NS)


saw("version", client.VersionApi().get_code().git_version)
saw("nodes", len(core.list_node().items))
config_maps()
pod()
dynamic_client()
applies()
custom_resources()
refusals()
