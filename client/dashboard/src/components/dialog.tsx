/** The one dialog: it asks before anything is done, and says what became of it. */

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { said } from "../bus/requests";
import { useLive } from "./context";

export interface Question {
  readonly title: string;
  readonly text: string;
  /** What the button says that does it. */
  readonly confirm: string;
  readonly dangerous?: boolean;
  /** Whether a reason is asked for; it goes into the history. */
  readonly reason?: boolean;
  /** Choices of how long, in seconds, the first taken unless another is chosen. */
  readonly durations?: readonly { readonly label: string; readonly seconds: number }[];
  run(given: { reason: string; seconds: number }): Promise<string>;
}

const question = signal<Question | null>(null);

/** What was done last, for the line that tells it. */
export const done = signal<{ text: string; at: number } | null>(null);

export function ask(next: Question): void {
  question.value = next;
}

export function Dialog() {
  const asked = question.value;
  return asked === null ? null : <Asking key={asked.title} asked={asked} />;
}

function Asking({ asked }: { asked: Question }) {
  const element = useRef<HTMLDialogElement>(null);
  const [reason, setReason] = useState("");
  const [seconds, setSeconds] = useState(asked.durations?.[0]?.seconds ?? 0);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const live = useLive();
  useEffect(() => element.current?.showModal(), []);
  const close = (): void => {
    element.current?.close();
  };
  const run = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setFailure("");
    try {
      done.value = { text: await asked.run({ reason: reason.trim(), seconds }), at: Date.now() };
      close();
    } catch (error) {
      setFailure(said(error));
      setBusy(false);
    }
  };
  const ready = live && !busy && (!asked.reason || reason.trim() !== "");
  return (
    <dialog
      ref={element}
      aria-labelledby="dialog-title"
      aria-describedby="dialog-text"
      onClose={() => {
        question.value = null;
      }}
    >
      <form onSubmit={(event) => void run(event)}>
        <h2 id="dialog-title">{asked.title}</h2>
        <p id="dialog-text">{asked.text}</p>
        {asked.durations && (
          <fieldset class="choices">
            <legend>By how long</legend>
            {asked.durations.map(({ label, seconds: each }) => (
              <label key={each}>
                <input
                  type="radio"
                  name="duration"
                  checked={each === seconds}
                  onChange={() => setSeconds(each)}
                />
                {label}
              </label>
            ))}
          </fieldset>
        )}
        {asked.reason && (
          <label class="field">
            Reason, for the history and for those it concerns
            <input
              name="reason"
              autocomplete="off"
              maxLength={200}
              required
              value={reason}
              onInput={(event) => setReason(event.currentTarget.value)}
            />
          </label>
        )}
        <p class="failure" role="alert">
          {failure || (live ? "" : "Control can't be asked at the moment.")}
        </p>
        <div class="buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class={asked.dangerous ? "danger" : "primary"} disabled={!ready}>
            {busy ? "Asking control…" : asked.confirm}
          </button>
        </div>
      </form>
    </dialog>
  );
}
