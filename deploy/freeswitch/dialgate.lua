-- For every outbound call: <action application="lua" data="dialgate.lua CAMPAIGN"/> as the last action, instead of the bridge.
-- Fails closed: only the response `200 allow` reaches the bridge. In every other case, also after an error in this script,
-- the call ends.
local GATE = "http://127.0.0.1:8080/v1/check.txt"
local TRUNK = "sofia/gateway/trunk/"

local function escaped(text)
  return (text:gsub("[^%w]", function(letter) return string.format("%%%02X", letter:byte()) end))
end

local to = session:getVariable("destination_number") or ""
local from = session:getVariable("caller_id_number") or ""
local uuid = session:getVariable("uuid") or ""

-- Clear an earlier response on the channel. mod_curl has no other timeouts than these.
session:setVariable("curl_response_code", "")
session:setVariable("curl_response_data", "")
session:setVariable("curl_connect_timeout", "1")
session:setVariable("curl_timeout", "1")

local allowed = false
if to:match("^%+?%d+$") and #to >= 6 and #to <= 16 then
  session:execute("curl", GATE .. "?to=" .. escaped(to) .. "&from=" .. escaped(from)
    .. "&campaign=" .. escaped(argv[1] or "") .. "&call_id=" .. escaped(uuid))
  allowed = session:getVariable("curl_response_code") == "200"
    and session:getVariable("curl_response_data") == "allow"
end

if allowed then
  session:setVariable("effective_caller_id_number", from) -- presents the checked caller ID
  -- Variables in brackets override exported ones: do not follow a 302, and do not withhold the caller ID.
  session:execute("bridge", "[outbound_redirect_fatal=true,origination_privacy=screen,origination_caller_id_number="
    .. from .. "]" .. TRUNK .. to)
end
session:hangup("CALL_REJECTED")
