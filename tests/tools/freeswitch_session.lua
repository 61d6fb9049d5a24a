-- As much of FreeSWITCH's `session` as dialgate.lua uses. arg: the script, the campaign, variables as NAME=VALUE.
-- Prints each application that is executed, and at a bridge the variables. `curl` is the real one.
local variables = { uuid = "u-1" }
for at = 3, #arg do
  local name, value = arg[at]:match("^(.-)=(.*)$")
  variables[name] = value
end
local function variable(name) return variables[name] ~= "" and variables[name] or nil end
session = {}
function session:getVariable(name) return variable(name) end
function session:setVariable(name, value) variables[name] = value end
function session:hangup(cause)
  print("hangup " .. (cause or "NORMAL_CLEARING"))
  os.exit(0)
end
function session:execute(application, data)
  print(application .. " " .. data)
  if application == "bridge" then
    for name, value in pairs(variables) do
      if not value:find("\n") then print("variable " .. name .. "=" .. value) end
    end
  elseif application == "unset" then
    variables[data] = nil
  elseif application == "curl" then
    local url, headers = data:match("^(%S+)(.*)$")
    local limit = variable("curl_timeout") and ("-m " .. variables.curl_timeout) or ""
    local response = io.popen("curl -s -i " .. limit .. " '" .. url .. "' 2>/dev/null"):read("a")
    local head, body = response:match("^(.-\r\n)\r\n(.*)$")
    body = (body or ""):match("^[^\0]*") -- mod_curl reads up to a null byte
    variables.curl_response_code = response:match("^HTTP/%S+ (%d+)") or "0"
    variables.curl_response_data = headers == " headers" and ((head and head .. "\r\n" or "") .. "\n" .. body) or body
  elseif application ~= "respond" then
    error("the application " .. application)
  end
end
argv = { arg[2] }
dofile(arg[1])
