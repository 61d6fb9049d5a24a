-- Every outbound call: <action application="lua" data="dialgate.lua CAMPAIGN"/>, as the last action, in place of the bridge.
-- Closed by construction: the bridge belongs to the one answer `200 allow`; whatever else happens, an error in here too,
-- the call ends without it.
local GATE = "http://127.0.0.1:8080/v1/check.txt"
local TRUNK = "sofia/gateway/trunk/"

local function escaped(text)
  return (text:gsub("[^%w]", function(letter) return string.format("%%%02X", letter:byte()) end))
end

local to = session:getVariable("destination_number") or ""
local from = session:getVariable("caller_id_number") or ""
local uuid = session:getVariable("uuid") or ""

-- An earlier answer on the channel counts for nothing, and mod_curl has no limit but these.
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
  session:setVariable("effective_caller_id_number", from) -- what was checked is what is shown
  -- In brackets, which win over what the dialer exported: no 302 is followed, and the caller ID is not withheld.
  session:execute("bridge", "[outbound_redirect_fatal=true,origination_privacy=screen,origination_caller_id_number="
    .. from .. "]" .. TRUNK .. to)
end
session:hangup("CALL_REJECTED")
