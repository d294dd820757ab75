local t = {}
for i = 1, 100000 do t[i] = i * i % 1009 end
table.sort(t)
print(#t, t[1], t[50000], t[100000])
local n = 0
for line in io.lines("text") do n = n + #line:gsub("%A", "") end
print(n, string.format("%.14g %a", math.pi, 0.1), 7 // 2, 2 ^ 53 | 1)
local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
print(co(), co(), co(), pcall(error, "caught"))
print(io.open("none"))
for i = 1, 200 do t = { t, ("x"):rep(i * 100) } end
collectgarbage()
os.exit(3)
