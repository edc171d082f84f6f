"""policy_model - random policies and messages, and what must become of them

A second evaluator of the rule language, written from the contract and not from the code it judges: it walks expression
trees from top to bottom, knows no index, no open rules and no stamp. Policies and messages are made of a small stock of
values, so that tests often hold, and of every form in which the same value may be written.
"""
import hashlib
import ipaddress
import re

BODY_LIMIT = 64

# domain as written -> as compared
DOMAINS = {"a.example": "a.example", "A.Example": "a.example", "B.EXAMPLE": "b.example", "b.example": "b.example",
           "c.example": "c.example", "sub.a.example": "sub.a.example", "b\u00fccher.example": "xn--bcher-kva.example",
           "B\u00dcCHER.example": "xn--bcher-kva.example", "XN--bcher-KVA.example": "xn--bcher-kva.example",
           "\u4f8b\u3048.example": "xn--r8jz45g.example"}
LOCALS = ["s", "S", "news", "first.last", "o'neil", "a+b", '"x y"']
VALUES = ["one", "two", "one two", "a", "b", "group:pool", "nobody", "it's", "back\\slash", "t\tab", "caf\u00e9",
          "=?utf-8?q?one?=", "", "a, b", "x" * 60]
CLIENTS = ["10.1.2.3", "10.200.0.1", "192.0.2.7", "203.0.113.9", "2001:db8::5", "2001:DB8:0:0:1::9"]
NETS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "0.0.0.0/0", "2001:db8::/32", "2001:db8::5", "192.0.2.0/24", "::/0"]
HOSTS = ["mail.a.example", "MAIL.A.example", "b.example", "client"]
USERS = ["alice", "Alice", "bob@b.example"]
PORTS = ["25", "587", "2525"]
SERVICES = ["smtpd", "submission", "MTA-v4"]
SIZES = [("100", 100), ("150", 150), ("200", 200), ("300", 300), ("1KB", 1024)]
BODIES = [b"", b"hello\r\n", b"the needle\r\n", b"x" * 60 + b"needle\r\n", b"it's \\ here\r\n\r\n", b"caf\xc3\xa9\r\nneedle\r\n",
          b"\r\nneedle\r\n", b"a" * 300 + b"\r\n"]
PATTERNS = {
    "mailfrom": ["^s@", "(?i)^S@a", "@.*example$", "^$", "o'neil", "xn--", "a\\.example$", "\\+"],
    "mailfrom_domain": ["^a\\.", "example$", "^$", "(?i)A", "^xn--[a-z0-9-]+\\.", "^[^.]+\\.example$"],
    "header": ["one", "^one$", "(?i)ONE", "^$", "one\\s+two", "^group:", "it's", "\\\\", "\\t", "[\\x80-\\xff]{2}",
               "^(one|two)$", "x{50,}", "."],
    "body": ["needle", "needle\\r?\\n?$", "^the", "(?i)NEEDLE", "[\\x80-\\xff]", "^$", "\\\\ here", "(?s)hello.*\\n$"],
    "size": ["^1", "0$"], "sender_ip": ["^10\\.", ":", "\\.7$", "^2001:db8::5$", "db8:0:0:1"],
    "sender_host": ["(?i)^mail", "example$", "^b\\."], "helo": ["(?i)^mail", "example$", "^b\\."],
    "auth_user": ["alice", "(?i)^ALICE$", "@"], "recv_ip": ["^192", "^10"], "recv_port": ["^25$", "5"],
    "daemon_name": ["smtp", "^sub"],
    "rcptto": ["^s@", "@b\\.example$", "(?i)NEWS", "xn--"], "rcptto_domain": ["^a\\.", "^xn--", "example$"]}
ADDRESSES, NAMES = ("sender_ip", "recv_ip"), ("sender_host", "helo")
PRIORITIES = [None, None, None, "high", "normal", "low"]
BINDINGS = ["a", "b", "c", "default", "p1"]
TARGETS = BINDINGS + ["group:pool"]


# --- an expression: ("test", field, operator, text) | ("not", x) | ("and", [...]) | ("or", [...]) --------------------------

def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sloppy(rnd, text):
    """A literal as people write it: a backslash is only doubled where it must be."""
    out = ""
    for i, c in enumerate(text):
        must = text[i + 1:i + 2] in ("\\", "'", "")
        out += "\\'" if c == "'" else "\\\\" if c == "\\" and (must or rnd.random() < 0.5) else c
    return "'" + out + "'"


def flat(kind, x):
    return [z for y in x[1] for z in (flat(kind, y) if y[0] == kind else [y])]


def normal_text(x):
    if x[0] == "test":
        field = "header:" + x[1][7:].lower() if x[1].startswith("header:") else x[1]
        return "%s %s %s" % (field, x[2], quoted(x[3]))
    if x[0] == "not":
        return "NOT " + (normal_text(x[1]) if x[1][0] == "test" else "(" + normal_text(x[1]) + ")")
    if x[0] == "and":
        return " AND ".join("(" + normal_text(y) + ")" if y[0] == "or" else normal_text(y) for y in flat("and", x))
    return " OR ".join(normal_text(y) for y in flat("or", x))


def written(rnd, x, above=""):
    """As someone might have written it: needless parentheses, white space of every kind."""
    gap = lambda: rnd.choice([" ", " ", " ", "  ", "\t", "\n"])  # noqa: E731
    if x[0] == "test":
        tight = rnd.random() < 0.2 and x[2] != "in"
        between = "" if tight else gap()
        text = x[1] + between + x[2] + between + sloppy(rnd, x[3])
    elif x[0] == "not":
        inner = x[1]
        text = "NOT" + gap() + (written(rnd, inner, "not") if inner[0] == "test" else "(" + written(rnd, inner) + ")")
        return "(" + text + ")" if above == "not" or rnd.random() < 0.1 else text
    else:
        word = x[0].upper()
        text = (gap() + word + gap()).join(written(rnd, y, x[0]) for y in x[1])
        if above == "not" or (above == "and" and x[0] == "or") or (above and rnd.random() < 0.2):
            return "(" + text + ")"
    if rnd.random() < 0.08:
        text = "(" + rnd.choice(["", " "]) + text + rnd.choice(["", " "]) + ")"
    return text


def has_recipient(x):
    if x[0] == "test":
        return x[1].startswith("rcptto")
    return any(has_recipient(y) for y in (x[1] if x[0] in ("and", "or") else [x[1]]))


# --- what is compared -----------------------------------------------------------------------------------------------------

def address(raw):
    """(address, domain) as they are compared"""
    text = raw.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    if text.startswith("@") and ":" in text:  # a source route
        text = text.split(":", 1)[1]
    if "@" not in text:
        return text, ""
    local, domain = text.rsplit("@", 1)
    domain = DOMAINS.get(domain, domain.lower())
    return local + "@" + domain, domain


def number(text):
    for literal, value in SIZES:
        if text == literal:
            return value
    return int(text)


def ip_in(value, item):
    net, ip = ipaddress.ip_network(item, strict=False), ipaddress.ip_address(value)
    return net.version == ip.version and ip in net


def same(field, value, literal):
    if field in ADDRESSES:
        return ip_in(value, literal)
    if field in NAMES:
        return value.lower() == literal.lower()
    if field in ("size", "recv_port"):
        return int(value) == number(literal)
    if field in ("mailfrom", "rcptto"):
        return value == address(literal)[0]
    if field in ("mailfrom_domain", "rcptto_domain"):
        return value == DOMAINS.get(literal, literal.lower())
    return value == (literal.encode() if isinstance(value, bytes) else literal)


def holds_for(field, op, text, value):
    if op in ("==", "!="):
        return same(field, value, text)
    if op in ("=~", "!~"):
        raw = value if isinstance(value, bytes) else value.encode()
        return re.search(text.encode("latin-1"), raw) is not None
    if op == "<":
        return int(value) < number(text)
    if op == ">":
        return int(value) > number(text)
    return any(same(field, value, item.strip()) for item in text.split(","))


def holds(x, facts):
    if x[0] == "not":
        return not holds(x[1], facts)
    if x[0] == "and":
        return all(holds(y, facts) for y in x[1])
    if x[0] == "or":
        return any(holds(y, facts) for y in x[1])
    _, field, op, text = x
    if field.startswith("header:"):
        any_instance = any(holds_for("header", op, text, value) for value in facts["headers"].get(field[7:].lower(), []))
        return any_instance != op.startswith("!")
    value = facts.get(field)
    return value is not None and holds_for(field, op, text, value) != op.startswith("!")


# --- making them ------------------------------------------------------------------------------------------------------------

def random_address(rnd):
    return rnd.choice(LOCALS) + "@" + rnd.choice(list(DOMAINS))


def random_test(rnd, recipient):
    fields = ["rcptto", "rcptto_domain"] if recipient else \
        ["mailfrom", "mailfrom_domain", "header:X-A", "header:x-a", "header:X-B", "header:Subject", "body", "size", "sender_ip",
         "sender_host", "helo", "auth_user", "recv_ip", "recv_port", "daemon_name"]
    field = rnd.choice(fields)
    kind = "header" if field.startswith("header:") else field
    op = rnd.choice(["=~", "!~", "==", "!=", "in", "==", "in"] + (["<", ">"] * 3 if kind in ("size", "recv_port") else []))
    stock = {"mailfrom": lambda: rnd.choice(["", random_address(rnd), "s@a.example", "<s@A.example>"]),
             "rcptto": lambda: rnd.choice([random_address(rnd), "s@a.example", "news@B.example"]),
             "mailfrom_domain": lambda: rnd.choice(["", *DOMAINS]), "rcptto_domain": lambda: rnd.choice(list(DOMAINS)),
             "header": lambda: rnd.choice(VALUES), "body": lambda: rnd.choice(BODIES)[:BODY_LIMIT].decode("utf-8", "ignore"),
             "size": lambda: rnd.choice(SIZES)[0], "sender_ip": lambda: rnd.choice(CLIENTS),
             "recv_ip": lambda: rnd.choice(CLIENTS), "sender_host": lambda: rnd.choice(HOSTS),
             "helo": lambda: rnd.choice(HOSTS), "auth_user": lambda: rnd.choice(USERS), "recv_port": lambda: rnd.choice(PORTS),
             "daemon_name": lambda: rnd.choice(SERVICES)}[kind]
    if op in ("=~", "!~"):
        text = rnd.choice(PATTERNS[kind])
    elif op in ("<", ">"):
        text = stock()
    elif op == "in":
        stock = (lambda: rnd.choice(NETS)) if kind in ADDRESSES else stock
        items = [item for item in (stock() for _ in range(rnd.randint(1, 4))) if item and "," not in item and item == item.strip()]
        if kind == "body" or not items:
            return random_test(rnd, recipient)
        text = rnd.choice([",", ", ", " , "]).join(items)
    else:
        text = stock()
    return ("test", field, op, text)


def random_expression(rnd, recipient, depth):
    if depth == 0 or rnd.random() < 0.35:
        return random_test(rnd, recipient)
    kind = rnd.choice(["and", "or", "not"])
    if kind == "not":
        return ("not", random_expression(rnd, recipient, depth - 1))
    return (kind, [random_expression(rnd, recipient, depth - 1) for _ in range(rnd.randint(2, 3))])


class Rule:
    """One rule: the tree, how it is written, what it binds to (choices: every target it may give)."""

    def __init__(self, rnd, number_):
        form = rnd.random()
        if form < 0.6:
            self.tree = random_expression(rnd, False, 3)
        elif form < 0.75:
            self.tree = random_expression(rnd, True, 2)
        else:  # N AND R, in any order
            parts = [random_expression(rnd, rnd.random() < 0.5, 2) for _ in range(rnd.randint(2, 4))]
            self.tree = ("and", parts)
        self.json = {"when": written(rnd, self.tree)}
        if rnd.random() < 0.7:
            self.json["name"] = "rule%d" % number_
        self.digest = hashlib.sha256(normal_text(self.tree).encode()).hexdigest()[:8]
        self.name = self.json.get("name", self.digest)
        self.priority = rnd.choice(PRIORITIES)
        if self.priority:
            self.json["priority"] = self.priority
        self.bind(rnd)
        operands = flat("and", self.tree) if self.tree[0] == "and" else [self.tree]
        self.front = ("and", [x for x in operands if not has_recipient(x)])
        self.open = any(has_recipient(x) for x in operands)

    def bind(self, rnd):
        self.header = self.sticky = None
        form = rnd.random()
        if form < 0.5:
            self.choices = [rnd.choice(TARGETS)]
            self.json["bind"] = self.choices[0]
        elif form < 0.65:
            self.choices = rnd.sample(TARGETS, 3)
            self.json["bind"] = self.choices
        elif form < 0.8:
            self.choices = rnd.sample(TARGETS, 2)
            self.json["bind"] = {t: rnd.choice([1, 2, 0.5]) for t in self.choices}
        else:
            self.header = rnd.choice(["X-A", "x-b"])
            self.json["bind"] = {"header": self.header}
            return
        if rnd.random() < 0.4:
            self.sticky = rnd.choice(["mailfrom", "mailfrom_domain", "header:X-B", "sender_ip", "auth_user"])
            self.json["sticky"] = self.sticky

    def targets(self, facts):
        """What it may bind this message to; nothing if it cannot."""
        if not self.header:
            return self.choices
        values = facts["headers"].get(self.header.lower(), [])
        return values if len(values) == 1 and values[0] in TARGETS + ["group:default", "p2"] and values[0] != "group:default" else []


class Policy:
    def __init__(self, rnd, ip):
        """ip(n): the n-th source address"""
        self.match = {"a.example": "a", "xn--bcher-kva.example": "b"}
        self.from_nets, self.from_auth = ["10.0.0.0/8"], rnd.random() < 0.5
        self.believe_all = rnd.random() < 0.4
        self.default_binding = rnd.choice(["normal", "normal", "none"])
        self.rules, seen = [], set()
        for i in range(rnd.randint(0, 10)):
            rule = Rule(rnd, i)
            if rule.digest not in seen:
                self.rules.append(rule)
            seen.add(rule.digest)
        bindings = {"a": {"match_domain": [rnd.choice(["a.example", "A.EXAMPLE"])]},
                    "b": {"match_domain": [rnd.choice(["b\u00fccher.example", "xn--bcher-kva.example"])]}, "c": {}, "default": {}}
        if not self.believe_all:
            bindings["a"]["match_domain_from"] = self.from_nets + (["authenticated"] if self.from_auth else [])
        pool = {"p1": {}, "p2": {"weight": 3}}
        for i, binding in enumerate([*bindings.values(), *pool.values()]):
            binding["bind_address"] = ip(i)
        self.json = {"global": {"default_binding": self.default_binding}, "bindings": bindings,
                     "binding_groups": {"pool": {"bindings": pool}}, "rules": [r.json for r in self.rules]}

    def by_domain(self, facts):
        binding = self.match.get(facts["mailfrom_domain"]) if facts["mailfrom_domain"] else None
        if binding == "a" and not self.believe_all:
            known = facts.get("sender_ip")
            if not ((known and any(ip_in(known, net) for net in self.from_nets)) or
                    (self.from_auth and facts.get("auth_user") is not None)):
                return None
        return binding

    def decide(self, facts, recipient):
        """(targets it may be, rule, priority) for one recipient; None: refused"""
        full = dict(facts)
        full["rcptto"], full["rcptto_domain"] = address(recipient)
        for rule in self.rules:
            targets = rule.targets(facts)
            if targets and holds(rule.tree, full):
                return targets, rule.name, rule.priority
        binding = self.by_domain(facts)
        if binding:
            return [binding], "match_domain", None
        if self.default_binding == "none" and facts["mailfrom"] != "":
            return None
        return ["default"], "default", None

    def in_front(self, facts):
        """What the milter knows: (rules that stay open, [targets, rule, priority] of what decides the others)"""
        opened = []
        for rule in self.rules:
            targets = rule.targets(facts)
            if not targets or not holds(rule.front, facts):
                continue
            if not rule.open:
                return opened, (targets, rule.name, rule.priority)
            opened.append((rule, targets))
        binding = self.by_domain(facts)
        if binding:
            return opened, ([binding], "match_domain", None)
        return opened, (["default"], "default", None)


class Message:
    """Its bytes, envelope, and the facts about it. name: its X-Name field, if it is to have one; ascii: in its addresses"""

    def __init__(self, rnd, name=None, ascii_only=False):
        def any_address():
            found = random_address(rnd)
            return found if found.isascii() or not ascii_only else any_address()

        self.sender = rnd.choice(["", any_address(), "s@a.example", "s@c.example"])
        recipients = [rnd.choice([any_address(), "s@a.example", "news@B.example"]) for _ in range(rnd.randint(1, 4))]
        self.recipients = sorted({r.lower(): r for r in recipients}.values())
        lines, self.headers = [], {}
        fields = [("X-Name", name)] if name else []
        fields += [("Subject", "x"), ("From", "s@c.example"), ("Message-ID", "<1@c.example>"), ("Date", "Fri, 20 Nov 2026 12:00:00 +0000")]
        fields += [(rnd.choice(["X-A", "x-a", "X-B", "X-b"]), rnd.choice(VALUES)) for _ in range(rnd.choice([0, 1, 1, 2, 3]))]
        rnd.shuffle(fields)
        for name, value in fields:
            self.headers.setdefault(name.lower(), []).append(value)
            lines.append("%s: %s" % (name, self.folded(rnd, value)))
        self.without_stamp = "".join(line + "\r\n" for line in lines).encode() + b"\r\n"
        for _ in range(rnd.choice([0, 0, 1, 2])):
            forged = rnd.choice(["X-Binding: a", "x-binding : c; b=rule1", "X-BINDING:\r\n group:pool"])
            lines.insert(rnd.randint(0, len(lines)), forged)
        self.body = rnd.choice(BODIES)
        self.head = "".join(line + "\r\n" for line in lines).encode() + b"\r\n"
        self.size = len(self.without_stamp) + len(self.body)
        self.client = rnd.choice([None, *CLIENTS])
        self.host = rnd.choice([None, *HOSTS])
        self.helo = rnd.choice([None, *HOSTS])
        self.user = rnd.choice([None, None, *USERS])
        self.recv_ip = rnd.choice([None, *CLIENTS[:3]])
        self.recv_port = rnd.choice([None, *PORTS])
        self.service = rnd.choice([None, *SERVICES])

    @staticmethod
    def folded(rnd, value):
        if "\t" not in value and rnd.random() < 0.4:
            value = value.replace(" ", rnd.choice(["\r\n ", " "]), 1)
        return rnd.choice(["", "", " ", "\r\n "]) + value + rnd.choice(["", "", " ", "\t "]) if value else value

    def facts(self):
        mailfrom, domain = address(self.sender)
        client = str(ipaddress.ip_address(self.client)) if self.client else None
        return {"mailfrom": mailfrom, "mailfrom_domain": domain, "headers": self.headers, "body": self.body[:BODY_LIMIT],
                "size": str(self.size), "sender_ip": client, "sender_host": self.host, "helo": self.helo,
                "auth_user": self.user, "recv_ip": self.recv_ip, "recv_port": self.recv_port, "daemon_name": self.service}
