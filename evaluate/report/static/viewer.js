"use strict";
// Point clouds on plain canvases: a z-buffer in typed arrays, no library. Both clouds of a pair share one camera.
for (const pair of document.querySelectorAll(".clouds")) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const { points, step, radius, near } = Object.fromEntries(Object.entries(pair.dataset).map(([key, value]) => [key, Number(value)]));
  const colours = bytes(pair.dataset.colours);
  const home = { yaw: 0.45, pitch: 0.35, zoom: 1 };
  const camera = { ...home };
  const distance = Math.max(near, 1.6 * radius);
  const views = [...pair.querySelectorAll("canvas")].map((canvas) => {
    const packed = new DataView(bytes(canvas.dataset.cloud).buffer);
    const xyz = new Float32Array(3 * points);
    for (let k = 0; k < xyz.length; k++) xyz[k] = (packed.getUint16(2 * k, true) - 32767) * step;
    return { canvas, xyz, context: canvas.getContext("2d", { willReadFrequently: true }) };
  });

  function draw({ canvas, xyz, context }) {
    const density = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * density));
    const height = Math.max(1, Math.round(canvas.clientHeight * density));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer).fill(0xff13100e);
    const depths = new Float32Array(width * height).fill(Infinity);
    const [cy, sy, cp, sp] = [Math.cos(camera.yaw), Math.sin(camera.yaw), Math.cos(camera.pitch), Math.sin(camera.pitch)];
    const focal = 0.44 * camera.zoom * Math.min(width, height) * distance / radius;
    const size = Math.max(2, Math.round(0.0095 * Math.min(width, height) * Math.sqrt(camera.zoom)));
    for (let k = 0; k < points; k++) {
      const x = xyz[3 * k], y = xyz[3 * k + 1], z = xyz[3 * k + 2];
      const right = cy * x - sy * z, ahead = sy * x + cy * z;
      const down = cp * y - sp * ahead, away = sp * y + cp * ahead + distance;
      if (away < 0.05 * distance) continue;
      const left = Math.round(width / 2 + focal * right / away - size / 2);
      const top = Math.round(height / 2 + focal * down / away - size / 2);
      const fade = Math.min(1.12, Math.max(0.45, 1.15 - 0.3 * (away - distance) / radius - 0.12));
      const red = Math.min(255, colours[3 * k] * fade), green = Math.min(255, colours[3 * k + 1] * fade), blue = Math.min(255, colours[3 * k + 2] * fade);
      const colour = (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
      for (let row = Math.max(0, top); row < Math.min(height, top + size); row++) {
        for (let at = row * width + Math.max(0, left), end = row * width + Math.min(width, left + size); at < end; at++) {
          if (away < depths[at]) { depths[at] = away; pixels[at] = colour; }
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  let queued = false;
  const redraw = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; views.forEach(draw); });
  };
  const turn = (yaw, pitch) => {
    camera.yaw += yaw;
    camera.pitch = Math.max(-1.5, Math.min(1.5, camera.pitch + pitch));
    redraw();
  };
  const zoom = (factor) => { camera.zoom = Math.max(0.3, Math.min(8, camera.zoom * factor)); redraw(); };
  const keys = {
    ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.1), ArrowDown: () => turn(0, -0.1),
    "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), 0: () => { Object.assign(camera, home); redraw(); },
  };
  for (const { canvas } of views) {
    let held = null;
    canvas.addEventListener("pointerdown", (event) => { held = event; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      turn((event.clientX - held.clientX) * 0.008, (event.clientY - held.clientY) * -0.008);
      held = event;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-0.0012 * event.deltaY)); }, { passive: false });
    canvas.addEventListener("dblclick", keys[0]);
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(redraw).observe(canvas);
  }
  redraw();
}
