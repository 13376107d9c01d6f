-- Microsoft's framing of TURN over TCP ([MS-TURN] 2.1.4), which Wireshark does not know, behind the
-- record of TLS that pseudo-TLS opens with. What is in them is for Wireshark's own dissectors.

local frames = Proto("msframes", "MS-TURN framing")
local kind = ProtoField.uint8("msframes.type", "Type", base.HEX)
local zero = ProtoField.uint8("msframes.zero", "Zero", base.HEX)
local length = ProtoField.uint16("msframes.length", "Length")
local strange = ProtoExpert.new("msframes.strange", "This is no frame", expert.group.MALFORMED, expert.severity.ERROR)
frames.fields = { kind, zero, length }
frames.experts = { strange }

local HANDSHAKE, CONTROL, DATA = 0x16, 2, 3
local message = Dissector.get("classicstun")
local record = Dissector.get("tls")
local data = Dissector.get("data")

local function whole(buffer, _, offset)
  if buffer(offset, 1):uint() ~= HANDSHAKE then
    return 4 + buffer(offset + 2, 2):uint()
  elseif buffer:len() < offset + 5 then
    return 5
  end
  return 5 + buffer(offset + 3, 2):uint()
end

local function one(buffer, pinfo, tree)
  local type = buffer(0, 1):uint()
  if type == HANDSHAKE then
    record:call(buffer, pinfo, tree)
    return buffer:len()
  end
  local frame = tree:add(frames, buffer(0, 4))
  frame:add(kind, buffer(0, 1))
  frame:add(zero, buffer(1, 1))
  frame:add(length, buffer(2, 2))
  if buffer(1, 1):uint() ~= 0 or type ~= CONTROL and type ~= DATA then
    frame:add_proto_expert_info(strange)
  elseif buffer:len() > 4 then
    local content = type == CONTROL and message or data
    content:call(buffer(4):tvb(), pinfo, tree)
  end
  return buffer:len()
end

function frames.dissector(buffer, pinfo, tree)
  dissect_tcp_pdus(buffer, tree, 4, whole, one)
  return buffer:len()
end

DissectorTable.get("tcp.port"):add_for_decode_as(frames)
