/** The time that views read: one tick a second for all of them, in the farm's clock. */

import { signal } from "@preact/signals";

/** This machine's milliseconds, renewed each second while the page can be seen. */
export const tick = signal(Date.now());

let offset = 0;

/** Milliseconds of the farm at a time of this machine's: what is retained has the farm's. */
export function farmTime(machine: number): number {
  return machine + offset;
}

/** Learn how this machine's clock differs from the farm's, from an answer that says its time. */
export function setClock(date: string | null, machine: number): void {
  const said = date === null ? Number.NaN : Date.parse(date);
  // Whole seconds are all that HTTP tells, so less than two is no difference.
  const difference = said - machine;
  offset = Number.isNaN(said) || Math.abs(difference) < 2000 ? 0 : difference;
}

export function startClock(): void {
  setInterval(() => {
    if (!document.hidden) tick.value = Date.now();
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) tick.value = Date.now();
  });
}
