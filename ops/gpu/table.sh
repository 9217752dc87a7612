#!/bin/sh
# Measured lines to a table: sh ops/gpu/table.sh LINES [STAMP]
# LINES is a file of "key<TAB>value<TAB>unit<TAB>what" (vidloom_speed's, torch_bench.py's; a fifth field,
# the error of the result, is for people); what is asked of the keys is in figures.txt. STAMP ("H200,
# driver 580.1; 2026-11-26, commit 1234567") makes it the report's table, where a figure that was not
# measured is "compiled, not yet run"; without it, only what was measured is shown. Of small sizes
# nothing is asked. Exit status 1: a figure is less than "at least".
set -eu
figures=$(dirname "$0")/figures.txt
awk -v stamp="${2:-}" '
BEGIN { FS = "\t" }
FILENAME == ARGV[1] { if (NF >= 2) { value[$1] = $2; what[$1] = $4 } next }
/^#/ { next }
{
    split($0, f, "|")
    key = f[1]; unit = f[3]; least = f[5]; aim = f[6]
    if (value["size"] == "small") { least = aim = "-"; f[2] = what[key] }
    if (!heading++) {
        if (stamp != "") {
            print "| what | figure | beside | share | at least | aim | card, driver, date, commit |"
            print "| --- | --- | --- | --- | --- | --- | --- |"
        } else
            printf "%-62s %16s %12s %7s %8s %6s\n", "", "figure", "beside", "share", "at least", "aim"
    }
    if (!(key in value)) {
        if (stamp != "" && least != "-")
            printf "| %s | compiled, not yet run | | | %s | %s | |\n", f[2], show(least), show(aim)
        next
    }
    best = 0
    count = split(f[4], rivals, ",")
    for (i = 1; i <= count; i++)
        if (rivals[i] in value && value[rivals[i]] + 0 > best) best = value[rivals[i]] + 0
    share = best > 0 ? value[key] / best : 0
    reached = f[4] == "-" ? value[key] + 0 : share
    verdict = ""
    if (least != "-" && (f[4] == "-" || best > 0)) {
        bad = unit == "s" ? reached > least : reached < least
        good = unit == "s" ? reached <= aim : reached >= aim
        verdict = bad ? "LESS" : good ? "aim" : "ok"
        less += bad
    }
    ceiling = best > 0 ? sprintf("%.4g", best) : ""
    part = best > 0 ? sprintf("%.2f", share) : ""
    if (stamp != "")
        printf "| %s | %.4g %s | %s | %s | %s | %s | %s |\n", f[2], value[key], unit, ceiling,
            part, show(least), show(aim), stamp
    else
        printf "%-62s %8.4g %7s %12s %7s %8s %6s %s\n", f[2], value[key], unit, ceiling, part,
            show(least), show(aim), verdict
}
function show(text) { return text == "-" ? "" : text }
END { exit less > 0 }
' "$1" "$figures"
