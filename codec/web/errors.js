/** Something that the user can do something about: the message is one line that names the remedy. */
export class CodecError extends Error {}

/** Bytes that should be a `.codes` stream are not, or are damaged. */
export class FormatError extends CodecError {}

/** One line for the user: what is no CodecError is a fault of the page. */
export function messageOf(error) {
  if (error instanceof CodecError) return error.message;
  const [reason] = String(error?.message ?? error).split("\n");
  return `the page has failed, reload it: ${reason}`;
}
