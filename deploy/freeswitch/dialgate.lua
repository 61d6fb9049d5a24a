-- For every outbound call: <action application="lua" data="dialgate.lua CAMPAIGN"/> as the last action, instead of the bridge.
-- Fails closed: only a complete response with status 200 and exactly the text `allow` reaches the bridge. In every other case,
-- also after an error in this script, the call ends. With the variable dialgate_from=auto the gate chooses the caller ID: the text
-- is then `allow` and the number to present.
local GATE = "http://127.0.0.1:8080/v1/check.txt"
local TRUNK = "sofia/gateway/trunk/"
local CAUSES = { number = "CALL_REJECTED", call = "OUTGOING_CALL_BARRED" }

local function escaped(text)
  return (text:gsub("[^%w]", function(letter) return string.format("%%%02X", letter:byte()) end))
end

local function is_number(text, least, most)
  local digits = text:match("^%+?(%d+)$")
  return digits ~= nil and #digits >= least and #digits <= most
end

local to = session:getVariable("destination_number") or ""
local from = session:getVariable("caller_id_number") or ""
local uuid = session:getVariable("uuid") or ""
if not is_number(from, 3, 15) then from = "" end
local auto = session:getVariable("dialgate_from") == "auto"

-- Clear an earlier response on the channel. mod_curl has no other timeouts than these.
session:setVariable("curl_response_data", "")
session:setVariable("curl_connect_timeout", "1")
session:setVariable("curl_timeout", "1")

local class = "call"
local allowed = false
if is_number(to, 6, 15) then
  session:execute("curl", GATE .. "?to=" .. escaped(to) .. "&from=" .. escaped(auto and "auto" or from)
    .. "&campaign=" .. escaped(argv[1] or "") .. "&call_id=" .. escaped(uuid) .. " headers")
  local response = session:getVariable("curl_response_data") or ""
  -- mod_curl also returns a part of a body, and the body of an error. So status, length and text are compared.
  local head, body = response:match("^(HTTP/1%.[01] 200 .-\r\n)\r\n\n(.*)$")
  head = (head or ""):lower()
  class = head:match("\ndialgate%-class: (%a+)\r\n")
  local whole = body ~= nil and head:match("\ncontent%-length: (%d+)\r\n") == tostring(#body)
  if auto then
    from = (body or ""):match("^allow (%+?%d+)$") or ""
    allowed = whole and is_number(from, 3, 15)
  else
    allowed = whole and body == "allow" and from ~= ""
  end
end

if allowed then
  -- Nothing else that the dialer set may reach the trunk: exported variables, SIP headers, parts of a body. campon would call
  -- again without a check.
  session:execute("unset", "export_vars")
  session:setVariable("sip_copy_custom_headers", "false")
  session:setVariable("sip_copy_multipart", "false")
  session:setVariable("campon", "false")
  -- Do not follow a 302, and present the checked caller ID, without a name.
  session:execute("bridge", "[outbound_redirect_fatal=true,origination_privacy=screen,origination_caller_id_name=_undef_,"
    .. "origination_caller_id_number=" .. from .. "]" .. TRUNK .. to)
  session:hangup()
  return
end
if not CAUSES[class] then -- 500, because after a 503 a dialer tries its next server, which could be the trunk
  session:setVariable("sip_rh_Retry-After", "5")
  session:execute("respond", "500 Server Internal Error")
end
session:hangup(CAUSES[class] or "NORMAL_TEMPORARY_FAILURE")
