"""What the contracts say in words, because JSON Schema can't: sound requests are made to keep it before they are sent.

- A whole number is written without a fraction: to JSON Schema 1.0 is one too.
- What a payment provider sends is signed.
- An activity ends after it has started; an item is spread over as many shards as there are at most.
- The SKUs, names and keys of a list are different, and a bucket fills within a week. A percentage is of mode
  percent, a share of merchants; what ends, ends soon; what can't be undone is confirmed.
- A switch takes its own values; a breaker's and automatic have no scope, level is of activities; its start is a time.
- A merchant that is made has a name, and a receiver a URL that can be one.
- A search's first time is before its last, or before now, its caller is one of its merchant, and its cursor is one that an answer had; an amount has a
  currency; the time to pay is moved by 30 days at most; a scope names what there is.
- A token and a key end within years; a payment secret is not one character again and again.
"""

import datetime
import hashlib
import hmac
import json
import os
import time

import schemathesis

SHARDS = 4
WEEK = 7 * 24 * 3600
SECRET = os.environ.get("PENSTOCK_PAYMENT_SECRET", "").encode()
VALUES = {
    "orders": "on",
    "admission": 100,
    "wait": "on",
    "browse": "live",
    "poll-interval": 1,
    "limits": "enforce",
    "automatic": "on",
    "timeouts": "on",
    "log-detail": "off",
}


def whole(value):
    """Writes whole numbers without their fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(v) for v in value]
    if isinstance(value, dict):
        return {k: whole(v) for k, v in value.items()}
    return value


def activity(body):
    times = []
    for name in ("starts_at", "ends_at"):
        try:
            times.append(datetime.datetime.fromisoformat(body[name].upper().replace("Z", "+00:00")))
        except ValueError:
            return
    if times[0] >= times[1]:
        body["starts_at"], body["ends_at"] = "2026-06-18T20:00:00+08:00", "2096-06-18T22:00:00+08:00"
    body["payment_window"] = "15m"
    seen = set()
    for i, item in enumerate(body["items"]):
        if item.get("spread"):
            item["spread"] = min(item["spread"], SHARDS)
        if item["sku"] in seen:
            item["sku"] = f"s{i}"
        seen.add(item["sku"])


def limits(body):
    body["allow_unknown"] = True
    for i, policy in enumerate(body["policies"]):
        policy["name"] = f"p{i}"
        policy["key"] = "caller"
        policy["match"] = f"m1/c{i}"
        policy.pop("guaranteed", None)
        policy.pop("weight", None)
        bounds(policy)
        values(policy, "1h")
        if policy.get("temporary") is not None:
            bucket(policy["temporary"], 5)
            values(policy["temporary"], "15m")
            policy["temporary"]["expires_in"] = "15m"
    body["confirm"] = True


def bounds(policy):
    quota = policy.get("quota")
    if policy.get("rate") is None or policy.get("burst") is None:
        policy.pop("rate", None)
        policy.pop("burst", None)
        if quota is None and policy.get("concurrency") is None:
            policy["concurrency"] = 50
        if quota is None:
            policy.pop("cost", None)
    else:
        bucket(policy, policy["rate"])
    if policy.get("cost") is not None:
        policy["cost"] = {"purchase": 1}
    if quota is None or policy.get("quota_per_sku") is None or policy.get("quota_max") is None:
        policy.pop("quota_per_sku", None)
        policy.pop("quota_max", None)
    else:
        policy["quota_max"] = max(policy["quota_max"], quota)
    if quota is None:
        policy.pop("zone", None)
    elif policy.get("zone") is not None:
        policy["zone"] = "Asia/Shanghai"


def bucket(policy, rate):
    policy["rate"] = policy.get("rate") or rate
    policy["burst"] = max(1, min(policy.get("burst") or 5, int(policy["rate"] * WEEK)))


def values(policy, life):
    policy.pop("expires_at", None)
    if policy.get("expires_in") is not None:
        policy["expires_in"] = life
    if policy.get("mode") == "percent":
        policy["percent"] = policy.get("percent") or 50
    else:
        policy.pop("percent", None)


def switch(name, body):
    body.pop("starts_at", None)
    if body["value"] is not None:
        body["value"] = VALUES.get(name, "auto")
    if name.endswith("-breaker") or name == "automatic":
        body.pop("scope", None)
    elif name == "level" and body.get("scope"):
        body["scope"] = {"activity": "618-phones"}
    if body.get("scope"):
        body["allow_unknown"] = True
    if body["value"] is None:
        body.pop("expires_in", None)
    elif body.get("expires_in"):
        body["expires_in"] = "15m"


def keep_words(case):
    body = case.body
    if isinstance(body.get("spread"), int):
        body["spread"] = min(body["spread"], SHARDS)
    if isinstance(body.get("expires_in"), str):
        body["expires_in"] = "24h"
    if isinstance(body.get("overlap"), str):
        body["overlap"] = "24h"
    if isinstance(body.get("payment_secret"), str):
        body["payment_secret"] = SECRET.decode()
    match case.operation.definition.raw.get("operationId"):
        case "putWebhook":
            body["url"] = "https://ops.example.com/penstock"
            if isinstance(body.get("secret"), str):
                body["secret"] = SECRET.decode()
        case "putActivity":
            activity(body)
        case "putMerchant":
            body["name"] = body.get("name") or "Shop"
        case "putLimits" | "previewLimits":
            limits(body)
        case "stageLimits":
            limits(body)
            body.pop("nodes", None)
            body["percent"] = 50
            for name, value in (("within", "30s"), ("complete_in", "1h")):
                if body.get(name) is not None:
                    body[name] = value
        case "putSwitch":
            switch(case.path_parameters["name"], body)
        case "end" | "discardDeadLetters":
            body["confirm"] = True
        case "replayLog":
            body["from"], body["to"] = "2026-06-18T20:00:00+08:00", "2026-06-18T21:00:00+08:00"
        case "extendOrders":
            body["by"] = "30m"
        case "settleRefund":
            if case.query and case.query.get("merchant") is not None:
                body.pop("merchant", None)
            if body.get("amount") is None or body.get("currency") is None:
                body.pop("amount", None)
                body.pop("currency", None)


SEARCHES = ("searchOrders", "exportOrders", "listRefunds", "getStatement")


def search(case):
    if case.operation.definition.raw.get("operationId") not in SEARCHES or not case.query:
        return
    case.query.pop("after", None)
    if "to" in case.query:
        case.query.pop("from", None)
    elif case.operation.definition.raw["operationId"] == "getStatement":
        case.query.pop("from", None)  # until now
    if "/" in str(case.query.get("caller", "")):
        case.query.pop("merchant", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = case.meta
    positive = meta is None or meta.generation.mode.is_positive
    if positive:
        search(case)
        if case.operation.definition.raw.get("operationId") == "end" and not isinstance(case.body, dict):
            case.body, case.media_type = {"confirm": True}, "application/json"
    if not isinstance(case.body, dict):
        return
    case.body = whole(json.loads(json.dumps(case.body)))
    if positive:
        keep_words(case)
        sign(case)


def sign(case):
    if case.operation.definition.raw.get("operationId") != "pay" or "Penstock-Signature" not in (case.headers or {}):
        return
    now = str(int(time.time()))
    text = json.dumps(case.body)  # as it is sent
    mac = hmac.new(SECRET, f"{now}.{text}".encode(), hashlib.sha256).hexdigest()
    case.headers["Penstock-Signature"] = f"t={now},v1={mac}"
