/** States as shape, colour and word: none of them alone. */

export type Tone = "good" | "idle" | "busy" | "bad" | "held" | "off";

const TONES: Readonly<Record<string, Tone>> = {
  serving: "good",
  active: "good",
  online: "good",
  fresh: "good",
  ready: "idle",
  ended: "off",
  released: "off",
  preparing: "busy",
  testing: "busy",
  flashing: "busy",
  releasing: "busy",
  ending: "busy",
  starting: "busy",
  draining: "busy",
  queued: "busy",
  connecting: "busy",
  silent: "bad",
  lost: "bad",
  broken: "bad",
  failed: "bad",
  quarantined: "held",
  absent: "off",
  offline: "off",
  unknown: "off",
};

export function toneOf(state: string): Tone {
  return TONES[state] ?? "off";
}

const SHAPES: Readonly<Record<Tone, string>> = {
  good: "M6 1a5 5 0 1 0 .01 0Z",
  idle: "M6 1a5 5 0 1 0 .01 0Zm0 2.2a2.8 2.8 0 1 1-.01 0Z",
  busy: "M6 1l5.2 9.5H.8Z",
  bad: "M2.6 1.2 6 4.6l3.4-3.4 1.4 1.4L7.4 6l3.4 3.4-1.4 1.4L6 7.4l-3.4 3.4-1.4-1.4L4.6 6 1.2 2.6Z",
  held: "M1.5 1.5h9v9h-9Z",
  off: "M1 4.8h10v2.4H1Z",
};

export function Shape({ tone }: { tone: Tone }) {
  return (
    <svg class={`shape ${tone}`} viewBox="0 0 12 12" width="11" height="11" aria-hidden="true">
      <path d={SHAPES[tone]} fill-rule="evenodd" />
    </svg>
  );
}

export function StateMark({ state, label = state }: { state: string; label?: string }) {
  return (
    <span class="state">
      <Shape tone={toneOf(state)} />
      {label}
    </span>
  );
}
