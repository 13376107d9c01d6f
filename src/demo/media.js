// What is sent: the microphone where there is one and it is allowed, else a tone; always a
// generated moving picture, so that no camera is asked for.

const WIDTH = 640;
const HEIGHT = 360;
const FRAMES_PER_S = 30;

// A picture in which every frame differs, with a clock that shows delay at a glance.
function picture() {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const pen = canvas.getContext("2d", { alpha: false });
  const start = performance.now();
  const draw = () => {
    const t = (performance.now() - start) / 1000;
    const sky = pen.createLinearGradient(0, 0, WIDTH, HEIGHT);
    sky.addColorStop(0, "#0b2b33");
    sky.addColorStop(1, "#124e4a");
    pen.fillStyle = sky;
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    pen.lineWidth = 3;
    for (const [index, hue] of ["#2dd4bf", "#7dd3fc", "#fb923c"].entries()) {
      pen.strokeStyle = hue;
      pen.globalAlpha = 0.9 - index * 0.22;
      pen.beginPath();
      for (let x = 0; x <= WIDTH; x += 8) {
        const swell = Math.sin(x / (70 + 25 * index) + t * (2.4 - 0.6 * index));
        const y = HEIGHT * 0.6 + swell * (46 - 9 * index) * Math.sin(t * 0.7 + x / 300);
        if (x) pen.lineTo(x, y); else pen.moveTo(x, y);
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.fillStyle = "#2dd4bf";
    pen.beginPath();
    pen.arc(WIDTH * (0.5 + 0.42 * Math.sin(t)), HEIGHT * 0.6 + 70 * Math.sin(t * 2), 9, 0, 7);
    pen.fill();
    pen.fillStyle = "#f1f5f9";
    pen.font = "600 64px ui-monospace, Menlo, Consolas, monospace";
    pen.textAlign = "center";
    pen.fillText(`${t.toFixed(2)} s`, WIDTH / 2, 104);
  };
  draw();
  const timer = setInterval(draw, 1000 / FRAMES_PER_S);
  const [track] = canvas.captureStream(FRAMES_PER_S).getVideoTracks();
  return { track, stop: () => { clearInterval(timer); track.stop(); } };
}

// Two soft notes that swell, so that a break would be heard.
function tone() {
  const context = new AudioContext();
  // Without a user's gesture the context starts suspended, and nothing is sent until there is one.
  const wake = () => context.resume().catch(() => {});
  if (context.state === "suspended") addEventListener("pointerdown", wake, { once: true });
  const out = context.createMediaStreamDestination();
  const volume = context.createGain();
  volume.gain.value = 0.12;
  volume.connect(out);
  const swell = context.createOscillator();
  const depth = context.createGain();
  swell.frequency.value = 0.8;
  depth.gain.value = 0.06;
  swell.connect(depth).connect(volume.gain);
  swell.start();
  for (const hertz of [330, 440]) {
    const note = context.createOscillator();
    note.frequency.value = hertz;
    note.connect(volume);
    note.start();
  }
  const [track] = out.stream.getAudioTracks();
  return { track, stop: () => { track.stop(); context.close(); } };
}

// The microphone, unless it fails, is refused, takes too long, or `skip` is aborted.
async function microphone(patience_ms, skip) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("this browser offers no microphone here");
  let late = false;
  const asked = navigator.mediaDevices.getUserMedia({ audio: true }).then((stream) => {
    if (late) stream.getTracks().forEach((track) => track.stop());
    return stream;
  });
  asked.catch(() => {});
  const given_up = new Promise((_, reject) => {
    const leave = (why) => { late = true; reject(new Error(why)); };
    setTimeout(leave, patience_ms, "nobody answered the browser’s question");
    skip.addEventListener("abort", () => leave("as you chose"), { once: true });
  });
  const stream = await Promise.race([asked, given_up]);
  const [track] = stream.getAudioTracks();
  return { track, stop: () => track.stop() };
}

// { stream, kind: "microphone" | "tone", why, stop() }
export async function openMedia(patience_ms, skip) {
  const image = picture();
  let sound;
  let kind = "microphone";
  let why = "";
  try {
    sound = await microphone(patience_ms, skip);
  } catch (error) {
    sound = tone();
    kind = "tone";
    why = error.name === "NotAllowedError" ? "microphone not allowed"
      : error.name === "NotFoundError" ? "no microphone found" : error.message;
  }
  return {
    stream: new MediaStream([sound.track, image.track]),
    kind,
    why,
    stop: () => { sound.stop(); image.stop(); },
  };
}
