-- As much of FreeSWITCH's `session` as dialgate.lua uses. arg: the script, the campaign, the number, variables as NAME=VALUE.
-- Prints the dial string of a bridge. `curl` is the real one.
local variables = { destination_number = arg[3], caller_id_number = "+390844123456", uuid = "u-1" }
for at = 4, #arg do
  local name, value = arg[at]:match("^(.-)=(.*)$")
  variables[name] = value
end
session = {}
function session:getVariable(name) return variables[name] end
function session:setVariable(name, value) variables[name] = value end
function session:hangup() os.exit(0) end
function session:execute(application, data)
  if application == "bridge" then
    io.write(data)
  elseif application == "curl" then
    local limit = variables.curl_timeout and ("-m " .. variables.curl_timeout) or ""
    local command = "curl -s " .. limit .. " -w '\n%{http_code}' '" .. data .. "' 2>/dev/null | tr -d '\\000'"
    local said = io.popen(command):read("a")
    variables.curl_response_data, variables.curl_response_code = said:match("^(.*)\n(%d+)$")
  else
    error("the application " .. application)
  end
end
argv = { arg[2] }
dofile(arg[1])
