#!/usr/bin/env python3
# conf_schema - the JSON Schemas made from options.def, against the examples of etc/ and against mistakes
import json
import os
import sys

import jsonschema

srcdir = os.environ.get("srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
builddir = os.environ.get("builddir") or os.getcwd()
tests = []


def test(ok, name):
    tests.append(ok)
    print(("ok" if ok else "not ok"), len(tests), "-", name)


def load(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


process = load(builddir, "common/conf/bindpost.schema.json")
policy = load(builddir, "common/conf/policy.schema.json")
for name, schema in (("bindpost.schema.json", process), ("policy.schema.json", policy)):
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        test(True, name + " is a schema")
    except jsonschema.SchemaError as error:
        print("#", error.message)
        test(False, name + " is a schema")


def complaints(schema, document):
    return [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(document)]


def accepts(schema, document, name):
    found = complaints(schema, document)
    for message in found:
        print("#", message)
    test(not found, "accepts " + name)


def refuses(schema, document):
    test(complaints(schema, document) != [], "refuses " + json.dumps(document))


accepts(process, load(srcdir, "etc/bindpost.json"), "etc/bindpost.json")
accepts(policy, load(srcdir, "etc/policy.json"), "etc/policy.json")
for name in sorted(os.listdir(os.path.join(srcdir, "etc/examples"))):
    accepts(policy, load(srcdir, "etc/examples", name), "etc/examples/" + name)
accepts(process, {}, "an empty file")
accepts(process, {"dns": {"servers": ["::1", {"address": "192.0.2.1:5353", "trust_ad": True}]},
                  "spool": {"memory": 268435456}, "comment": ["any", 1]}, "other forms of values")
accepts(policy, {"global": {"routes": ["hub", "smtp://h?pref=1"], "skip_hosts": "own",
                            "prohibited_hosts": ["own", {"host": "*.bad", "code": 550, "text": "no"}]},
                 "domains": {"a.example": {"routes": "__mx__"}, "b.example": {"routes": None}}}, "routes and rules for hosts")
accepts(policy, {"domains": {"a.example": {"response_rules": [
    {"name": "r", "match": "too many", "code": 421, "threshold": "5/60", "then": "reduce_connections 2", "for": "1h"},
    {"code": "4.7.x", "then": "retry_in 10m"}, {"code": "5yz", "then": "suspend 30m", "comment": "x"}]}}}, "response rules")
accepts(policy, {"bindings": {"a": {"bind_address": "192.0.2.1", "curfew": [
    {"from": "0 22 * * 1-5", "to": "0 6 * * *", "timezone": "Europe/Berlin"}]}}}, "curfew")
refuses(policy, {"global": {"curfew": {"from": "0 22 * * *"}}})
refuses(policy, {"global": {"curfew": {"from": "0 22 * *", "to": "0 6 * * *"}}})
refuses(policy, {"global": {"response_rules": {"match": "x"}}})
refuses(policy, {"global": {"response_rules": {"match": "x", "then": "explode"}}})
refuses(policy, {"global": {"response_rules": {"code": 250, "then": "fail"}}})
accepts(policy, {"global": {"retry_interval": 60, "max_retries": "none", "gateway": None, "use_ipv6": "off"},
                 "bindings": {"comment": "x", "default": {"comment": 1}},
                 "rules": [{"when": "size > '3'", "bind": {"a": 1, "group:b": 2.5}}]}, "other forms of values")

for document in ({"handof": {}}, {"handoff": {"listen": "127.0.0.1:24"}}, {"handoff": {"max_recipients": 0}},
                 {"handoff": {"unstamped": "accept"}}, {"user": ""}, {"spool": {"path": None}},
                 {"stop_timeout": "90 s"}, {"log": {"level": "loud"}}, []):
    refuses(process, document)
for document in ({"binding": {}}, {"bindings": {"a:b": {}}}, {"bindings": {"a": {"use_ipv6": True}}},
                 {"bindings": {"a": {"bind_address": []}}}, {"global": {"max_outbound_connections": 100001}},
                 {"domains": {"example.com": {"bind_address": "192.0.2.1"}}},
                 {"hosts": {"mx.example.com": {"retry_interval": 60}}},
                 {"global": {"ehlo_hostname": ""}}, {"global": {"delivery_method": "LMTP"}},
                 {"rules": [{"when": "x"}]}, {"rules": [{"when": "x", "bind": "a:b"}]}, {"rules": {}}):
    refuses(policy, document)

print("1..%d" % len(tests))
sys.exit(0 if all(tests) else 1)
