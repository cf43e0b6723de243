// Sounds that the server does not decode are decoded by the browser and sent as WAV; so are recordings.

const SERVER = /\.(wav|flac|ogg|oga|opus|mp3|aif|aiff|aifc|au|snd|w64|caf)$/i;
const MOST_SECONDS = 300;

export async function uploadable(file) {
  if (SERVER.test(file.name)) return file;
  const context = new AudioContext();
  try {
    return encodeWav(await context.decodeAudioData(await file.arrayBuffer()));
  } catch (error) {
    throw new Error(`${file.name} is no sound that this browser or the server can read.`);
  } finally {
    context.close();
  }
}

// 16-bit mono WAV.
export function encodeWav(buffer) {
  const count = Math.min(buffer.length, MOST_SECONDS * buffer.sampleRate), view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, buffer.sampleRate, true); view.setUint32(28, 2 * buffer.sampleRate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * count, true);
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index));
  for (let index = 0; index < count; index += 1) {
    const mean = channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length;
    view.setInt16(44 + 2 * index, Math.round(32767 * Math.max(-1, Math.min(1, mean))), true);
  }
  return new Blob([view], { type: "audio/wav" });
}

// Start a recording; returns a function that ends it and gives the file.
export async function record() {
  if (!navigator.mediaDevices) throw new Error("This browser records only on localhost or over https.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new Error("There is no microphone, or the browser does not allow its use.");
  }
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.start();
  return () => new Promise((done) => {
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      done(new File(parts, "recording", { type: recorder.mimeType }));
    });
    recorder.stop();
  });
}
