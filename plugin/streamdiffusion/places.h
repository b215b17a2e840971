/* places.h - where models and tokenizers lie on this machine.
 *
 * The data directory is $XDG_DATA_HOME/scope, else ~/.local/share/scope: `scope model get` puts
 * models in models/OWNER/NAME and CLIP's tokenizer in tokenizers/clip there. The folder models/
 * beside the plugin's library comes after it; the build puts the model that ships there.
 */
#ifndef SD_PLACES_H
#define SD_PLACES_H

/* The real path of what a person calls `path`: a file or folder, or OWNER/NAME[/FILE] that was
 * downloaded (OWNER/NAME:FILE too), or that came with the plugin. Owned by the caller; NULL when
 * there is nothing. [load] */
char *places_find(const char *path);
/* The same of a whole model: a folder without model_index.json that holds one .safetensors is that
 * file. */
char *places_model(const char *path);
/* The folder of the tokenizer for a single-file model: tokenizer/ beside it, its own folder,
 * then the data directory. Owned by the caller; NULL when there is none. [load] */
char *places_tokenizer(const char *model);

#endif
