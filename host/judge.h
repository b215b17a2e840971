/* judge.h - the child's side of `scope check`: one plugin put through everything a store would ask.
 *
 * It reports on stdout as it goes, one JSON object a line, so that a crash leaves all that was
 * found before it:
 *   {"doing": "..."}                                   what the plugin is being asked next
 *   {"verdict": "pass|warn|fail", "name": "...", "text": "..."}
 *   {"crash": "..."}                                   why the process is about to end
 *   {"done": true}                                     nothing is left to ask
 */
#ifndef HOST_JUDGE_H
#define HOST_JUDGE_H

/* `scope --judge FILE ID LIMIT VALUES`: no call into the plugin may take longer than LIMIT seconds;
 * VALUES is a JSON object of parameters that replace defaults. Returns an exit code. */
int judge_child(const char *path, const char *id, const char *limit, const char *values);

#endif
