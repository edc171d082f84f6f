-- prelude - words for the scripts in this folder, on top of miltertest's
--
-- start{policy = TEXT, options = TEXT}   writes the configuration and starts bindpost-milter; TEXT is JSON with ' for ", and ` for '
-- conn = session{...}                    connects, negotiates, says connect and HELO where the milter wants them
-- message(conn, {from=, headers={{name, value}, ...}, body=, macros={name, value, ...}})   MAIL to end of message
-- expect_stamp(conn, VALUE)              accepted, with exactly this stamp at the top (nil: none)
-- reload(TEXT, OK)                       new policy by the control socket; OK = false: it must be refused

bindings = [['bindings': {
	'acme': {'bind_address': '192.0.2.1', 'match_domain': 'acme.example'},
	'beta': {'bind_address': '192.0.2.2'},
	'default': {'bind_address': '192.0.2.9'}},
	'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.11'}, 'p2': {'bind_address': '192.0.2.12'}}}}]]

function fail(...)
	mt.echo("failed: " .. string.format(...) .. " (line " .. debug.getinfo(3, "l").currentline .. ")")
	error("failed")
end

function expect(value, ...)
	if not value then
		fail(...)
	end
end

local function json(text)
	return (string.gsub(text, "['`]", {["'"] = '"', ["`"] = "'"}))
end

local function write(name, text)
	local f = io.open(dir .. "/" .. name, "w")
	f:write(text)
	f:close()
end

function write_policy(text)
	write("policy.json", json("{" .. bindings .. (text and "," .. text or "") .. "}"))
end

socket = "unix:" .. dir .. "/m.sock"

function start(what)
	write_policy(what.policy)
	write("bindpost.json", json("{'hostname': 'mta.example', 'user': 'root', 'policy': 'policy.json', 'log': {'level': 'debug'}," ..
		(what.options and what.options .. "," or "") ..
		"'milter': {'listen': 'unix:" .. dir .. "/m.sock', 'control': 'unix:" .. dir .. "/c.sock'" ..
		(what.milter and "," .. what.milter or "") .. "}}"))
	mt.startfilter(program, "-c", dir .. "/bindpost.json")
	local conn = mt.connect(socket, 400, 0.025)
	expect(conn, "the milter does not listen")
	mt.disconnect(conn)
end

function control(method, path, want)
	local done = os.execute("python3 '" .. srcdir .. "/t/lib/unix_http.py' '" .. dir .. "/c.sock' " .. method ..
		" '" .. path .. "' " .. want)
	expect(done, "%s %s does not answer %s", method, path, want)
end

function reload(text, ok)
	write_policy(text)
	control("POST", "/v1/reload", ok == false and 409 or 200)
end

-- Steps the milter turned off are not said to it, as an MTA would.
local function wanted(conn, no)
	return not mt.test_option(conn, no)
end

function negotiated(what)
	what = what or {}
	local conn = mt.connect(socket, 40, 0.025)
	expect(conn, "no connection")
	expect(mt.negotiate(conn, what.version, what.actions, what.steps) == nil, "negotiation fails")
	return conn
end

function session(what)
	what = what or {}
	local conn = negotiated(what)
	if wanted(conn, SMFIP_NOCONNECT) then
		if what.connect_macros then
			mt.macro(conn, SMFIC_CONNECT, table.unpack(what.connect_macros))
		end
		expect(mt.conninfo(conn, what.host or "client.example", what.ip or "192.0.2.200") == nil, "connect")
	end
	if wanted(conn, SMFIP_NOHELO) then
		expect(mt.helo(conn, what.helo or "client.example") == nil, "helo")
	end
	return conn
end

function mail(conn, from, macros)
	if macros then
		mt.macro(conn, SMFIC_MAIL, table.unpack(macros))
	end
	expect(mt.mailfrom(conn, from or "<sender@example.com>") == nil, "mail")
	return mt.getreply(conn)
end

function header(conn, name, value)
	-- the space behind the colon is the MTA's to send when the milter asked for it
	expect(mt.header(conn, name, mt.test_option(conn, SMFIP_HDR_LEADSPC) and " " .. value or value) == nil, "header")
end

function rest(conn, what)
	for _, h in ipairs(what.headers or {{"Subject", "test"}}) do
		header(conn, h[1], h[2])
	end
	if what.body and wanted(conn, SMFIP_NOBODY) then
		expect(mt.bodystring(conn, what.body) == nil, "body")
	end
	expect(mt.eom(conn) == nil, "end of message")
	return mt.getreply(conn)
end

function message(conn, what)
	what = what or {}
	local r = mail(conn, what.from, what.macros)
	expect(r == SMFIR_CONTINUE, "MAIL is answered %c", r)
	return rest(conn, what)
end

function expect_stamp(conn, value)
	expect(mt.getreply(conn) == SMFIR_ACCEPT, "not accepted: %c", mt.getreply(conn))
	local got = mt.getheader(conn, "X-Binding", 0)
	if got and string.sub(got, 1, 1) == " " and mt.test_option(conn, SMFIP_HDR_LEADSPC) then
		got = string.sub(got, 2)
	end
	expect(got == value, "stamped %q, not %q", tostring(got), tostring(value))
	if value then
		expect(mt.eom_check(conn, MT_HDRINSERT, "X-Binding", mt.getheader(conn, "X-Binding", 0), 0), "not at the top")
		expect(mt.getheader(conn, "X-Binding", 1) == nil, "two stamps")
	end
end

-- miltertest does not tell a final reply's code: t/milter/protocol.t looks at those
function expect_refused(conn)
	expect(mt.getreply(conn) == SMFIR_REPLYCODE, "answered %c, not with a code", mt.getreply(conn))
end
