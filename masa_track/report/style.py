"""The style sheet and the script of the report. They are inside the page, which loads nothing from the network."""

CSS = """
:root { color-scheme: light dark; --page:#f5f6f8; --card:#fff; --ink:#14181f; --soft:#5d6675; --faint:#8a93a2;
  --edge:#e3e6eb; --grid:#eceef2; --hover:#f1f4f9; --accent:#2f6fed; --pic:#eef0f4; --warn:#a35200; --warnbg:#fff6e8;
  --shadow:0 1px 2px rgba(20,24,31,.05) }
@media (prefers-color-scheme: dark) { :root { --page:#0e1116; --card:#161a21; --ink:#e8ebf0; --soft:#a0a9b8;
  --faint:#778093; --edge:#272d37; --grid:#222832; --hover:#1d232d; --accent:#7aa7ff; --pic:#0f1319; --warn:#f2b866;
  --warnbg:#2a2114; --shadow:none } }
* { box-sizing:border-box }
html { scroll-behavior:smooth; -webkit-text-size-adjust:100% }
body { margin:0; background:var(--page); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
  "Helvetica Neue",Arial,sans-serif; font-variant-numeric:tabular-nums }
main { max-width:1200px; margin:0 auto; padding:36px 24px 24px }
a { color:var(--accent); text-decoration:none } a:hover { text-decoration:underline }
h1 { font-size:27px; line-height:1.2; letter-spacing:-.015em; margin:2px 0 4px; overflow-wrap:anywhere }
h2 { font-size:16px; letter-spacing:-.005em; margin:0 }
.over { font-size:12px; font-weight:600; letter-spacing:.06em; text-transform:uppercase; color:var(--accent) }
.soft { color:var(--soft) } .small { font-size:13px }
header p { margin:0; overflow-wrap:anywhere }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(146px,1fr)); gap:12px; margin:24px 0 }
.tile,.panel { background:var(--card); border:1px solid var(--edge); border-radius:12px; box-shadow:var(--shadow) }
.tile { padding:13px 16px 12px }
.tile .what { color:var(--soft); font-size:13px }
.tile b { display:block; font-size:25px; line-height:1.25; font-weight:650; letter-spacing:-.02em; white-space:nowrap }
.tile b small { font-size:14px; font-weight:500; letter-spacing:0; color:var(--soft) }
.tile .also { color:var(--faint); font-size:12.5px }
.panel { padding:18px 20px; margin:0 0 16px }
.head { display:flex; flex-wrap:wrap; gap:2px 14px; align-items:baseline; margin-bottom:12px }
.split { display:grid; grid-template-columns:minmax(0,1.7fr) minmax(0,1fr); gap:16px; align-items:start }
.split .panel { height:100% } .split { margin-bottom:16px } .split .panel { margin:0 }
video { display:block; width:100%; max-height:520px; background:#000; border-radius:8px }
.files { display:flex; flex-wrap:wrap; gap:8px; margin-top:14px }
.files a { border:1px solid var(--edge); border-radius:999px; padding:3px 12px; font-size:13px }
.files a:hover { background:var(--hover); text-decoration:none }
dl.facts { margin:0; display:grid; grid-template-columns:repeat(auto-fit,minmax(250px,1fr)); column-gap:28px }
dl.facts div { display:flex; justify-content:space-between; gap:16px; padding:6px 0;
  border-bottom:1px solid var(--grid) }
dl.facts dt { color:var(--soft); flex:none; max-width:50% } dl.facts dd { margin:0; text-align:right }
dl.facts dd,dl.facts dt { overflow-wrap:anywhere }
.note { background:var(--warnbg); color:var(--warn); border-radius:10px; padding:11px 16px; margin:0 0 16px }
.note p { margin:4px 0 0; overflow-wrap:anywhere } .note summary { font-weight:600 }
.scroll { max-height:min(860px,92vh); overflow-y:auto; position:relative }
.plot { display:grid; grid-template-columns:62px minmax(0,1fr); }
.plot>div { position:relative; min-width:0 }
.top { position:sticky; top:0; background:var(--card); z-index:2; border-bottom:1px solid var(--edge) }
.foot { position:sticky; bottom:0; background:var(--card); z-index:2; border-top:1px solid var(--edge) }
.right { padding-right:6px } svg { display:block; overflow:visible } svg.rows { overflow:hidden }
svg text { fill:var(--soft); font-size:11.5px; dominant-baseline:central; text-anchor:middle }
svg.labels text { text-anchor:end; font-size:12.5px } svg.labels.r18 text { font-size:11.5px }
svg.labels.r13 text { font-size:10px } svg.labels a:hover text { fill:var(--accent) }
svg .unit { text-anchor:end; fill:var(--faint) }
.grid line { stroke:var(--grid); stroke-width:1 } .hit { fill:transparent } .row:hover .hit { fill:var(--hover) }
.row rect:not(.hit) { fill:var(--c); stroke:var(--c); stroke-width:1 } .row .gap { stroke:var(--c); opacity:.55;
  stroke-dasharray:2 3 }
.curve .line { fill:none; stroke:var(--accent); stroke-width:1.6; vector-effect:non-scaling-stroke }
.curve .area { fill:var(--accent); opacity:.13 } .curve .band { fill:var(--accent); opacity:.12 }
.curve .hit:hover { fill:var(--accent); fill-opacity:.16 }
.now { position:absolute; top:0; bottom:0; width:1px; background:var(--ink); opacity:.65; pointer-events:none }
.seek { cursor:pointer }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(178px,1fr)); gap:12px }
.card { border:1px solid var(--edge); border-radius:10px; overflow:hidden; scroll-margin:20px; break-inside:avoid }
.card:target { outline:2px solid var(--accent); outline-offset:1px }
.pic { height:128px; background:var(--pic); display:flex; align-items:center; justify-content:center;
  border-bottom:3px solid var(--c); color:var(--faint); font-size:13px }
.pic img { max-width:100%; max-height:112px; border-radius:4px; display:block }
.card .text { padding:8px 12px 10px; font-size:12.5px; line-height:1.5; color:var(--soft) }
.card h3 { margin:0; font-size:14px; color:var(--ink); display:flex; gap:6px; min-width:0 }
.card h3 span { font-weight:450; color:var(--soft); overflow:hidden; text-overflow:ellipsis; white-space:nowrap }
details summary { cursor:pointer } details.more summary { margin:16px 0 12px; color:var(--accent) }
footer { color:var(--faint); font-size:12.5px; padding:8px 0 20px; text-align:center }
@media screen and (max-width:760px) { main { padding:22px 14px } h1 { font-size:22px }
  .split { grid-template-columns:minmax(0,1fr) }
  .tiles { grid-template-columns:repeat(2,minmax(0,1fr)); gap:10px } .panel { padding:14px }
  .odd { display:none } .plot { grid-template-columns:44px minmax(0,1fr) }
  .cards { grid-template-columns:repeat(2,minmax(0,1fr)); gap:10px } }
@media print { :root { color-scheme:light; --page:#fff; --card:#fff; --ink:#000; --soft:#444; --faint:#666; --edge:#ccc;
  --grid:#e4e4e4; --pic:#f2f2f2; --accent:#1d56c9; --warnbg:#fff; --warn:#7a3d00 } main { max-width:none; padding:1px }
  .tiles { grid-template-columns:repeat(4,minmax(0,1fr)) } .head { break-after:avoid } .tile { break-inside:avoid }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact } .player,.files,.now { display:none }
  .scroll { max-height:none; overflow:visible } .top,.foot { position:static } .tile,.panel { box-shadow:none }
  .split { grid-template-columns:minmax(0,1fr) } }
"""

# A click on the plot goes there in the video; a line on the plot shows where the video is; printing opens all folds.
SCRIPT = """
const video = document.querySelector('video'), plots = document.querySelectorAll('.seek');
if (video) {
  const line = () => Object.assign(document.createElement('div'), {className: 'now'});
  const lines = [...plots].map(plot => plot.appendChild(line()));
  const places = () => [...JSON.parse(video.dataset.places || '[[0,0]]'), [1, video.duration || 1]];
  const mapped = (value, from, to) => {
    const all = places();
    let next = all.findIndex(place => place[from] > value);
    next = next < 0 ? all.length - 1 : Math.max(next, 1);
    const [before, after] = [all[next - 1], all[next]], length = after[from] - before[from];
    return before[to] + (length > 0 ? (value - before[from]) / length : 0) * (after[to] - before[to]);
  };
  const show = () => lines.forEach(line => line.style.left = 100 * mapped(video.currentTime, 1, 0) + '%');
  ['timeupdate', 'seeking', 'loadedmetadata'].forEach(name => video.addEventListener(name, show));
  plots.forEach(plot => plot.addEventListener('click', event => {
    const box = plot.getBoundingClientRect();
    // A thousandth of a second later, as times are rounded: else a click could show the frame before.
    if (video.duration) video.currentTime = mapped((event.clientX - box.left) / box.width, 0, 1) + .001;
  }));
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(fold => fold.open = true));
addEventListener('hashchange', () => {
  const card = document.getElementById(location.hash.slice(1)), fold = card && card.closest('details');
  if (fold && !fold.open) { fold.open = true; card.scrollIntoView(); }
});
"""
