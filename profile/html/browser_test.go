package html

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// hostile is a name that is markup, script and the end of one, to whoever takes it for that.
const hostile = `</script><script>window.bad=1</script><img src=x onerror="window.bad=1">"'&{{.}}` + "\u2028<!--"

// recorded returns a recording with everything in it.
func recorded(stacks int) *boottrace.Recording {
	r := &boottrace.Recording{
		Image: hostile, Flavour: "native", VMM: "QEMU 7.2.22", Accel: "tcg", Machine: "microvm", Firmware: "qboot",
		MemoryBytes: 64 << 20, TimeNanos: 1_790_000_000e9, PrepareNanos: 16e6, Exact: tracetest.Profile(stacks),
	}
	r.Exact.Functions[1].Name = hostile
	for i := range 6 {
		ms := int64(100+i) * 1e6
		io := tracetest.IO(40)
		io[3].Parts[0].Path = hostile
		r.Runs = append(r.Runs,
			boottrace.Run{Kind: boottrace.Floor, Until: boottrace.UntilExit, ReadyNanos: 30e6 + int64(i)*1e5, ExitNanos: 30e6},
			boottrace.Run{
				Kind: boottrace.Timed, Until: boottrace.UntilOutput, ReadyNanos: ms, ExitNanos: ms + 1e6,
				Marks: []boottrace.Mark{
					{ID: abi.MarkEntry, HostNanos: ms / 4}, {ID: abi.MarkMain, HostNanos: ms / 3}, {ID: abi.MarkNamed, Name: hostile, HostNanos: ms * 2 / 5},
					{ID: abi.MarkApp, HostNanos: ms / 2}, {ID: abi.MarkOutput, HostNanos: ms},
				},
				End: &boottrace.End{How: abi.EndExited}, TouchedBytes: 3 << 20, IO: io, IOTotal: 40, Output: []byte(hostile + "\x1b[31m\x00\xff"),
				Regions: []boottrace.Region{{Name: "kernel image", TouchedBytes: 1 << 20}, {Name: hostile, TouchedBytes: 1 << 20}},
				Memory:  &boottrace.Memory{ZeroBytes: 8192, OverTime: []boottrace.Touched{{Nanos: ms / 3, Bytes: 1 << 20}, {Nanos: ms / 2, Bytes: 2 << 20}, {Nanos: ms, Bytes: 3 << 20}}},
			})
	}
	n := r.Exact.Instructions()
	r.Runs = append(r.Runs, boottrace.Run{
		Kind: boottrace.Counting, Until: boottrace.UntilOutput, Instructions: n, Marks: []boottrace.Mark{
			{ID: abi.MarkEntry, Instructions: n / 100}, {ID: abi.MarkMain, Instructions: n / 10}, {ID: abi.MarkApp, Instructions: n / 2}, {ID: abi.MarkOutput, Instructions: n},
		},
		Regions: []boottrace.Region{{Name: "kernel image", TouchedBytes: 2 << 20}, {Name: hostile, TouchedBytes: 1 << 20}},
		Memory:  &boottrace.Memory{ReadyBytes: 1 << 20, Ready: []boottrace.Region{{Name: hostile, TouchedBytes: 1 << 20}}, OverTime: []boottrace.Touched{{Instructions: n / 3, Bytes: 1 << 20}, {Instructions: n, Bytes: 2 << 20}}},
	})
	return r
}

// odd returns a recording of figures that no boot has, as far as a file may have them.
func odd() *boottrace.Recording {
	const most = 1<<64 - 1
	r := &boottrace.Recording{MemoryBytes: most, TimeNanos: -1 << 63, PrepareNanos: 1 << 50, Argv: []string{""}}
	r.Runs = []boottrace.Run{
		{Kind: boottrace.Timed, ReadyNanos: 0}, {Kind: boottrace.Floor, ReadyNanos: 1 << 50}, {Kind: boottrace.Counting},
		{Kind: boottrace.Timed, ReadyNanos: 1, TouchedBytes: most, PSSBytes: most, Instructions: most, End: &boottrace.End{How: 200, Code: 1 << 31},
			Marks:   []boottrace.Mark{{ID: abi.MarkApp, HostNanos: 1 << 50, TSC: most}, {ID: abi.MarkEntry, HostNanos: 1}, {ID: abi.MarkNamed}},
			Regions: []boottrace.Region{{}, {Name: "a", TouchedBytes: most}},
			Memory:  &boottrace.Memory{ZeroBytes: most, RSSBytes: most, Balloon: map[string]uint64{"": most}, OverTime: []boottrace.Touched{{}, {Nanos: -5, Bytes: most}, {Nanos: 1 << 62, Instructions: most}}},
			IO:      []boottrace.Request{{}, {Op: "read", Disk: -1, Offset: most, Length: most, StartNanos: -1 << 63, Nanos: 1<<63 - 1, Instructions: most, Parts: []boottrace.Part{{Length: most}, {Path: "a"}}}}},
		{Kind: boottrace.Counting, Instructions: most, Marks: []boottrace.Mark{{ID: abi.MarkEntry, Instructions: most}}, Memory: &boottrace.Memory{OverTime: []boottrace.Touched{{}}}},
		{Kind: boottrace.Traced, ReadyNanos: 5, IO: []boottrace.Request{{Op: "unfinished read", Offset: most}}},
	}
	p := tracetest.Profile(100)
	p.Kind, p.Phases = boottrace.Sampled, []string{"", hostile, "app"}
	for i := range p.Samples {
		p.Samples[i].Instructions, p.Samples[i].TouchedBytes, p.Samples[i].Count, p.Samples[i].Nanos = most, most, most, 1<<50
	}
	r.Exact, r.Sampled = &boottrace.Profile{Kind: boottrace.Exact, Stacks: []boottrace.Stack{{Location: -1}}}, p
	return r
}

// written writes a recording's report to a file.
func written(t *testing.T, r *boottrace.Recording) string {
	t.Helper()
	var b bytes.Buffer
	file := filepath.Join(t.TempDir(), "report.html")
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBrowser looks at reports in Chromium.
func TestBrowser(t *testing.T) {
	b := startBrowser(t)
	full := written(t, recorded(5000))
	files := map[string]string{
		"full": full, "odd": written(t, odd()), "empty": written(t, &boottrace.Recording{Image: "a"}),
		"bare": written(t, &boottrace.Recording{Image: strings.Repeat("long-name", 30), Runs: []boottrace.Run{{Kind: boottrace.Timed, Until: boottrace.UntilExit, ReadyNanos: 5e6}}}),
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			p := b.open(t, file, 1200)
			p.quiet(file)
			for _, width := range []int{1200, 800, 360} {
				p.resize(width)
				if w := eval[int](p, "document.scrollingElement.scrollWidth"); w > width {
					t.Errorf("the page is %d pixels wide in a window of %d", w, width)
				}
			}
			p.tabs()
			for _, scheme := range []string{"light", "dark"} {
				p.emulate(scheme)
				p.contrast()
			}
			p.quiet(file)
		})
	}
	t.Run("timeline", func(t *testing.T) { b.open(t, full, 1000).timeline() })
	t.Run("flame graph", func(t *testing.T) { b.open(t, full, 1000).flame() })
	t.Run("theme", func(t *testing.T) { b.open(t, full, 1000).theme() })
}

// quiet checks that nothing was loaded but the file, nothing was complained about, and no name became markup.
func (p *tab) quiet(file string) {
	p.t.Helper()
	for _, method := range []string{"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} {
		for _, e := range p.seen(method) {
			p.t.Errorf("%s: %s", method, e)
		}
	}
	for _, e := range p.seen("Network.requestWillBeSent") {
		if !strings.Contains(e, `"file://`+file+`"`) || strings.Count(e, `"url":"`) > 1 {
			p.t.Errorf("the page asked for something: %s", e)
		}
	}
	if eval[bool](p, "'bad' in window || !!document.querySelector('img') || document.querySelectorAll('script').length !== 2") {
		p.t.Error("a name of the recording became markup")
	}
}

// tabs checks that the Tab key reaches all that can be used, in the order of the page, each with a visible focus and a name.
func (p *tab) tabs() {
	p.t.Helper()
	want := eval[int](p, `(() => { document.activeElement.blur(); window.seen = [];
		return [...document.querySelectorAll('button, input, select, summary, a[href], canvas, [tabindex]')].filter(e => e.checkVisibility() && e.tabIndex >= 0 && !e.disabled).length })()`)
	got := 0
	for range want + 5 {
		p.press("Tab")
		said := eval[string](p, `(() => { const e = document.activeElement;
			if (e === document.body || seen.includes(e)) return '';
			const what = e.tagName + ' ' + e.id + ' ' + e.textContent.slice(0, 30);
			const name = e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent.trim();
			seen.push(e);
			return (name ? 'ok ' : 'no name ') + (getComputedStyle(e).outlineStyle === 'none' ? 'no focus ' : '') + what })()`)
		if said == "" {
			break
		}
		if !strings.HasPrefix(said, "ok ") || strings.Contains(said, "no focus") {
			p.t.Errorf("Tab: %s", said)
		}
		got++
	}
	if got != want {
		p.t.Errorf("Tab reaches %d elements, want %d", got, want)
	}
}

// contrast checks that all text differs from what is behind it by 4.5 to 1, as WCAG 2.2 wants it.
func (p *tab) contrast() {
	p.t.Helper()
	for _, s := range eval[[]string](p, `(() => {
		const parse = c => c.match(/[\d.]+/g).map(Number);
		const light = ([r, g, b]) => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b) };
		const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c } return [255, 255, 255] };
		const bad = new Set();
		for (const e of document.querySelectorAll('body *')) {
			if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
			const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (ratio < 4.5) bad.add(ratio.toFixed(2) + ' ' + e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40));
		}
		return [...bad] })()`) {
		p.t.Errorf("contrast: %s", s)
	}
}

const timelineRange = "document.querySelector('#timeline-tools .range').textContent"

// timeline checks that keys, wheel and mouse zoom and move.
func (p *tab) timeline() {
	eval[bool](p, "document.querySelector('#timeline canvas').focus() || true")
	last := eval[string](p, timelineRange)
	if last != "0.00 ms to 102.50 ms" {
		p.t.Errorf("the timeline shows %q at first", last)
	}
	changes := func(what string) {
		p.t.Helper()
		now := eval[string](p, timelineRange)
		if now == last {
			p.t.Errorf("%s: the timeline still shows %s", what, now)
		}
		last = now
	}
	for _, key := range []string{"+", "ArrowRight", "ArrowLeft", "+", "-", "0", "="} {
		before := eval[string](p, "document.querySelector('#timeline canvas').toDataURL()")
		p.press(key)
		changes(key)
		if before == eval[string](p, "document.querySelector('#timeline canvas').toDataURL()") {
			p.t.Errorf("%s: the picture is the same", key)
		}
	}
	p.press("0")
	changes("0")
	box := eval[[]float64](p, "(r => [r.left, r.top, r.width])(document.querySelector('#timeline canvas').getBoundingClientRect())")
	x, y := box[0]+box[2]/2, box[1]+40
	p.mouse("mouseWheel", x, y, map[string]any{"deltaX": 0, "deltaY": -240})
	changes("the wheel")
	p.mouse("mousePressed", x, y, map[string]any{"button": "left", "buttons": 1, "clickCount": 1})
	p.mouse("mouseMoved", x+80, y, map[string]any{"button": "left", "buttons": 1})
	p.mouse("mouseReleased", x+80, y, map[string]any{"button": "left", "clickCount": 1})
	changes("dragging")
	p.mouse("mouseMoved", x, y, nil)
	if tip := eval[string](p, "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"); !strings.Contains(tip, "of the boot") {
		p.t.Errorf("the tooltip says %q", tip)
	}
	for _, name := range []string{"timeline", "memory", "disk"} {
		eval[bool](p, fmt.Sprintf("document.querySelector('#%s canvas').focus() || true", name))
		said := make(map[string]bool)
		for _, key := range []string{"ArrowDown", "ArrowDown", "ArrowUp"} {
			p.press(key)
			said[eval[string](p, fmt.Sprintf("document.querySelector('#%s output').textContent", name))] = true
		}
		if len(said) != 2 || said[""] {
			p.t.Errorf("%s: the arrow keys read %v", name, said)
		}
	}
	for _, button := range []string{"−", "+", "All", "Instructions", "Time"} {
		eval[bool](p, fmt.Sprintf("[...document.querySelectorAll('#timeline-tools button')].find(b => b.textContent === %q).click() || true", button))
		changes(button)
	}
}

// Pieces of the flame graph.
const (
	flameCanvas = "document.querySelector('#flame canvas')"
	flameStatus = "document.getElementById('flame-status').textContent"
	flamePath   = "document.getElementById('flame-path').textContent"
)

// flame checks that the flame graph is searched, zoomed by keys and mouse, and weighed by memory.
func (p *tab) flame() {
	total := fmt.Sprint("all · ", count(float64(recorded(5000).Exact.Instructions())), " instructions, 100.0 % of all")
	if got := eval[string](p, flameStatus); got != total {
		p.t.Errorf("the flame graph begins with %q, want %q", got, total)
	}
	eval[bool](p, flameCanvas+".focus() || true")
	p.press("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft")
	chosen := eval[string](p, flameStatus)
	if !strings.Contains(chosen, "of its caller") {
		p.t.Errorf("the arrow keys lead to %q", chosen)
	}
	picture := eval[string](p, flameCanvas+".toDataURL()")
	p.press("Enter")
	if got := eval[string](p, flamePath); !strings.HasPrefix(got, "all") || strings.Count(got, "") < 6 || eval[string](p, flameCanvas+".toDataURL()") == picture {
		p.t.Errorf("Enter leads to %q", got)
	}
	p.press("Escape")
	if got := eval[int](p, "document.querySelectorAll('#flame-path li').length"); got != 2 {
		p.t.Errorf("Escape leads to a path of %d", got)
	}
	eval[bool](p, "document.querySelector('#flame-path button').click() || true")
	if got := eval[string](p, flamePath); got != "all" {
		p.t.Errorf("the path's first button leads to %q", got)
	}

	// The colour of what was found is nowhere else.
	marked := `(() => { const probe = document.createElement('i'); probe.style.color = 'var(--hit)'; document.body.append(probe);
		const want = getComputedStyle(probe).color.match(/\d+/g).map(Number); probe.remove();
		const c = ` + flameCanvas + `, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
		for (let i = 0; i < d.length; i += 4) if (d[i] === want[0] && d[i + 1] === want[1] && d[i + 2] === want[2]) n++;
		return n })()`
	if n := eval[int](p, marked); n > 0 {
		p.t.Errorf("%d pixels are marked before a search", n)
	}
	eval[bool](p, "document.querySelector('#flame-tools input').focus() || true")
	p.press("i", "n", "i", "t", "_")
	found := eval[string](p, "document.getElementById('found').textContent")
	if n := eval[int](p, marked); n == 0 || !strings.Contains(found, "functions, ") {
		p.t.Errorf("the search marks %d pixels, and says %q", n, found)
	}
	p.press("q", "q")
	if got := eval[string](p, "document.getElementById('found').textContent"); got != "0 functions, 0.0 %" {
		p.t.Errorf("a search in vain says %q", got)
	}
	eval[bool](p, "document.querySelector('#functions button').click() || true")
	if n := eval[int](p, marked); n == 0 {
		p.t.Error("a function of the table is not marked")
	}

	eval[bool](p, "[...document.querySelectorAll('#flame-tools button')].find(b => b.textContent === 'Touched memory').click() || true")
	if got := eval[string](p, flameStatus); !strings.Contains(got, "iB, 100.0 % of all") {
		p.t.Errorf("by memory it says %q", got)
	}
	eval[bool](p, "[...document.querySelectorAll('#flame-tools button')].find(b => b.textContent === 'By size').click() || true")
	p.press("0")
	box := eval[[]float64](p, "("+flameCanvas+".scrollIntoView(), (r => [r.left, r.top, r.width])("+flameCanvas+".getBoundingClientRect()))")
	p.mouse("mouseMoved", box[0]+20, box[1]+30, nil)
	if tip := eval[string](p, "document.getElementById('tip').textContent"); !strings.Contains(tip, "of all") {
		p.t.Errorf("the tooltip says %q", tip)
	}
	p.mouse("mousePressed", box[0]+20, box[1]+30, map[string]any{"button": "left", "buttons": 1, "clickCount": 1})
	p.mouse("mouseReleased", box[0]+20, box[1]+30, map[string]any{"button": "left", "clickCount": 1})
	if got := eval[int](p, "document.querySelectorAll('#flame-path li').length"); got != 2 {
		p.t.Errorf("a click leads to a path of %d", got)
	}
}

// theme checks that the colours follow the system, until the button is pressed.
func (p *tab) theme() {
	colors := "getComputedStyle(document.body).backgroundColor + document.querySelector('#timeline canvas').toDataURL()"
	light := eval[string](p, colors)
	p.emulate("dark")
	dark := eval[string](p, colors)
	eval[bool](p, "document.getElementById('theme').click() || true")
	again := eval[string](p, colors)
	if light == dark || again != light {
		p.t.Errorf("light and dark are the same: %v; the button shows light in the dark: %v", light == dark, again == light)
	}
}
