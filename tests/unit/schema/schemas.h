/* schemas.h - a dozen varied schemas, and those found in the tree, for tests that walk them all. */
#ifndef TEST_SCHEMAS_H
#define TEST_SCHEMAS_H

#include <jansson.h>

#include "plugin/scope_plugin.h"

static const char *const inline_schemas[] = {
    "{}",
    SCOPE_JSON({
        "title" : "Invert",
        "type" : "object",
        "properties" : {
            "amount" : {
                "type" : "number",
                "default" : 1,
                "minimum" : 0,
                "maximum" : 1,
                "step" : 0.01,
                "ui" : {"order" : 1, "label" : "Amount", "modulatable" : true}
            }
        }
    }),
          SCOPE_JSON({
        "title" : "Colour | with a pipe",
        "description" : "Moves colours.",
        "properties" : {
            "hue" : {
                "type" : "number",
                "default" : 0,
                "minimum" : -180,
                "maximum" : 180,
                "ui" : {"order" : 2, "unit" : "deg", "group" : "Colour"}
            },
            "saturation" : {
                "type" : "number",
                "default" : 1,
                "minimum" : 0,
                "maximum" : 4,
                "ui" : {"order" : 1, "group" : "Colour"}
            },
            "bypass" : {"type" : "boolean", "default" : false, "ui" : {"order" : 0}}
        }
    }),
                        SCOPE_JSON({
        "properties" : {
            "frames" : {
                "type" : "integer",
                "default" : 8,
                "minimum" : 1,
                "maximum" : 64,
                "ui" : {"order" : 1, "unit" : "frames", "is_load_param" : true}
            },
            "decay" : {"type" : "number", "default" : 0.5, "maximum" : 1},
            "gain" : {"type" : "number", "default" : 2, "minimum" : 1e-3}
        }
    }),
                            SCOPE_JSON({
        "properties" : {
            "w" :
                {"type" : "integer", "default" : 512, "minimum" : 64, "maximum" : 2047, "step" : 8},
            "odd" : {"type" : "integer", "default" : 3, "minimum" : 1, "maximum" : 99, "step" : 2},
            "free" : {"type" : "integer", "default" : -9, "step" : 3},
            "wide" : {"type" : "integer", "default" : 9007199254740993}
        }
    }),
                                SCOPE_JSON({
        "properties" : {
            "s" : {"type" : "string", "default" : "a | b\n\"c\" \u00e9"},
            "mode" : {
                "type" : "string",
                "default" : "none",
                "enum" : [ "none", "depth", "scribble" ],
                "ui" : {"order" : 3, "label" : "Mode"}
            },
            "size" : {"type" : "integer", "default" : 518, "enum" : [ 252, 364, 518 ]},
            "ratio" : {"type" : "number", "default" : 0.5, "enum" : [ 0.25, 0.5, 1 ]}
        }
    }),
                                                           SCOPE_JSON({
        "properties" : {
            "t_index_list" : {
                "type" : "array",
                "default" : [ 0, 16 ],
                "minItems" : 1,
                "maxItems" : 4,
                "items" : {"type" : "integer", "minimum" : 0, "maximum" : 49},
                "ui" : {"order" : 1}
            },
            "curve" : {"type" : "array", "default" : [], "items" : {"type" : "number"}},
            "switches" : {"type" : "array", "default" : [true], "items" : {"type" : "boolean"}},
            "tags" : {
                "type" : "array",
                "default" : "one",
                "maxItems" : 3,
                "items" : {"type" : "string"}
            },
            "kinds" : {
                "type" : "array",
                "default" : [],
                "maxItems" : 3,
                "items" : {"type" : "string", "enum" : [ "a", "b" ]}
            }
        }
    }),
                                                                                                                                                                                                                                                                                      SCOPE_JSON({
        "properties" : {
            "prompts" : {"$ref" : "base.json#/prompts"},
            "negative_prompt" : {"$ref" : "base.json#/negative_prompt"},
            "strength" : {"$ref" : "base.json#/strength", "default" : 0.5, "ui" : {"order" : 1}},
            "seed" : {"$ref" : "base.json#/seed", "ui" : null}
        }
    }),
                                                                                                                                                                                                                                                                                                                            SCOPE_JSON({
        "properties" : {
            "lora" : {
                "type" : "object",
                "properties" : {
                    "scale" : {"type" : "number", "default" : 1, "minimum" : -2, "maximum" : 2},
                    "file" : {"type" : "string", "default" : ""},
                    "blocks" : {
                        "type" : "array",
                        "default" : [],
                        "maxItems" : 5,
                        "items" : {"type" : "integer"}
                    }
                },
                "ui" : {"order" : 7}
            },
            "loras" : {
                "type" : "array",
                "default" : [],
                "maxItems" : 4,
                "items" : {
                    "type" : "object",
                    "properties" : {
                        "file" : {"type" : "string", "default" : ""},
                        "scale" : {"type" : "number", "default" : 1}
                    }
                }
            }
        }
    }),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                              SCOPE_JSON({
        "properties" : {
            "point" : {
                "type" : "object",
                "default" : {"y" : 2},
                "properties" : {
                    "x" : {"type" : "integer", "default" : 0},
                    "y" : {"type" : "integer", "default" : 0}
                }
            },
            "box" : {
                "type" : "object",
                "properties" : {
                    "from" : {
                        "type" : "object",
                        "properties" : {"x" : {"type" : "number", "default" : 0}}
                    },
                    "to" : {
                        "type" : "object",
                        "default" : {"x" : 1},
                        "properties" : {
                            "x" : {"type" : "number", "default" : 0},
                            "on" : {"type" : "boolean", "default" : true}
                        }
                    }
                }
            }
        }
    }),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      SCOPE_JSON({
        "properties" : {
            "grid" : {
                "type" : "array",
                "default" : [[0]],
                "maxItems" : 3,
                "items" : {
                    "type" : "array",
                    "minItems" : 1,
                    "maxItems" : 2,
                    "items" : {"type" : "integer"}
                }
            },
            "names" : {
                "type" : "array",
                "default" : [],
                "maxItems" : 3,
                "items" : {"type" : "array", "maxItems" : 2, "items" : {"type" : "string"}}
            }
        }
    }),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            SCOPE_JSON({
        "properties" : {
            "b" : {"type" : "boolean", "default" : true, "ui" : {"order" : 5}},
            "a" : {
                "type" : "boolean",
                "default" : true,
                "ui" : {"order" : 5, "visible_if" : {"b" : true}}
            },
            "z" :
                {"type" : "boolean", "default" : true, "ui" : {"order" : -5, "modes" : ["video"]}},
            "m" : {"type" : "boolean", "default" : true},
            "in" : {
                "type" : "string",
                "default" : "",
                "ui" : {"category" : "input", "multiline" : true}
            }
        }
    }),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                SCOPE_JSON({
        "properties" : {
            "alpha" : {"type" : "integer", "default" : 1},
            "alpha_end" : {"type" : "integer", "default" : 2},
            "alphabet" : {"type" : "string", "default" : "x"},
            "Beta" : {"type" : "number", "default" : 1e300},
            "deep" : {
                "type" : "array",
                "default" : [],
                "maxItems" : 2,
                "items" : {
                    "type" : "object",
                    "properties" : {
                        "list" : {
                            "type" : "array",
                            "default" : [ {} ],
                            "maxItems" : 2,
                            "items" : {
                                "type" : "object",
                                "properties" : {
                                    "v" : {"type" : "number", "default" : 0.1},
                                    "t" : {"type" : "string", "default" : "t"}
                                }
                            }
                        }
                    }
                }
            }
        }
    }),
};

enum { INLINE_SCHEMAS = (int)(sizeof inline_schemas / sizeof *inline_schemas) };

/* Every shared field of base.json in one schema. New string. */
static inline char *base_schema(void)
{
    json_t *base = json_load_file(SOURCE_DIR "/schema/base.json", 0, NULL), *value;
    json_t *properties = json_object();
    const char *key;
    json_object_foreach(base, key, value)
    {
        json_object_set_new(properties, key, json_pack("{s:s+}", "$ref", "base.json#/", key));
    }
    json_t *doc = json_pack("{s:o}", "properties", properties);
    char *text = json_dumps(doc, 0);
    json_decref(doc);
    json_decref(base);
    return text;
}

/* The plugin's schema, or NULL when the tree has none. New string. */
static inline char *plugin_schema(void)
{
    json_t *doc = json_load_file(SOURCE_DIR "/plugin/streamdiffusion/schema.json", 0, NULL);
    char *text = doc ? json_dumps(doc, 0) : NULL;
    json_decref(doc);
    return text;
}
#endif
