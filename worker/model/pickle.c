#include "worker/model/pickle.h"

#include <string.h>

#include "base/text.h"

#define STACK_MAX  4096 /* values: a batch of 1000 pairs and what is around it */
#define GLOBAL_MAX 128  /* bytes of a module or a name */

enum opcode {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINFLOAT = 'G',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_EMPTY_TUPLE = ')',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95
};

struct machine {
    struct arena *arena;
    const uint8_t *bytes;
    size_t length, at, opcode; /* next byte; offset of the opcode that is run */
    const char *const *globals;
    struct pickle_value *stack[STACK_MAX]; /* NULL: a mark */
    size_t depth;
    struct pickle_value **memo;
    size_t memo_count, memo_room;
    enum error_code code; /* the first error sticks */
    struct error *error;
};

static void wrong(struct machine *m, enum error_code code, const char *what) {
    if (m->code == ERR_OK)
        m->code = error_set(m->error, code, "byte %zu of the pickle: %s", m->opcode, what);
}

/* -- reading --------------------------------------------------------------------------------- */

static const uint8_t *take(struct machine *m, size_t count) {
    if (m->code != ERR_OK || count > m->length - m->at) {
        wrong(m, ERR_FORMAT, "it ends in the middle of an operation");
        return NULL;
    }
    m->at += count;
    return m->bytes + m->at - count;
}

static uint64_t take_number(struct machine *m, size_t bytes) {
    const uint8_t *from = take(m, bytes);
    uint64_t value = 0;
    for (size_t i = bytes; from != NULL && i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static void *allocate(struct machine *m, size_t bytes) {
    void *out = m->code == ERR_OK ? arena_zalloc(m->arena, bytes) : NULL;
    if (out == NULL)
        wrong(m, ERR_LIMIT, "too many objects");
    return out;
}

static struct pickle_value *make(struct machine *m, enum pickle_type type) {
    struct pickle_value *value = allocate(m, sizeof *value);
    if (value != NULL)
        value->type = type;
    return value;
}

static const char *keep_text(struct machine *m, const uint8_t *from, size_t length) {
    char *text = m->code == ERR_OK ? arena_strdup(m->arena, (const char *)from, length) : NULL;
    if (text == NULL)
        wrong(m, ERR_LIMIT, "too many texts");
    return text;
}

/* -- the stack ------------------------------------------------------------------------------- */

static void push(struct machine *m, struct pickle_value *value) {
    if (m->code != ERR_OK)
        return;
    if (m->depth == STACK_MAX)
        wrong(m, ERR_LIMIT, "its stack is deeper than a state dict needs");
    else
        m->stack[m->depth++] = value;
}

/* Never a mark; NULL after an error. */
static struct pickle_value *pop(struct machine *m) {
    if (m->code != ERR_OK || m->depth == 0 || m->stack[m->depth - 1] == NULL) {
        wrong(m, ERR_FORMAT, "an operand is missing");
        return NULL;
    }
    return m->stack[--m->depth];
}

static void append(struct machine *m, struct pickle_value *to, const struct pickle_value *value) {
    struct pickle_item *item = allocate(m, sizeof *item);
    if (item == NULL)
        return;
    item->value = value;
    if (to->last == NULL)
        to->first = item;
    else
        to->last->next = item;
    to->last = item;
    to->length++;
}

/* Index of the first value over the topmost mark. */
static size_t over_mark(struct machine *m) {
    size_t first = m->depth;
    while (first > 0 && m->stack[first - 1] != NULL)
        first--;
    if (first == 0)
        wrong(m, ERR_FORMAT, "there is no mark");
    return first;
}

/* The values from `first` on into a container, and off the stack; with a mark below them, that
 * too. */
static void gather(struct machine *m, struct pickle_value *to, size_t first, bool mark) {
    for (size_t i = first; m->code == ERR_OK && i < m->depth; i++)
        append(m, to, m->stack[i]);
    if (m->code == ERR_OK)
        m->depth = first - (mark ? 1 : 0);
}

static void tuple_of(struct machine *m, size_t count) {
    struct pickle_value *tuple = make(m, PICKLE_TUPLE);
    for (size_t i = 0; m->code == ERR_OK && i < count; i++)
        if (i >= m->depth || m->stack[m->depth - 1 - i] == NULL)
            wrong(m, ERR_FORMAT, "an operand is missing");
    if (m->code == ERR_OK)
        gather(m, tuple, m->depth - count, false);
    push(m, tuple);
}

/* Items over the mark, or the topmost `count`, into the list or dict below them. */
static void add_items(struct machine *m, enum pickle_type type, size_t count) {
    if (count > m->depth)
        wrong(m, ERR_FORMAT, "an operand is missing");
    size_t first = count == 0 ? over_mark(m) : m->depth - count;
    if (m->code != ERR_OK)
        return;
    size_t below = first - (count == 0 ? 1 : 0);
    if (below == 0 || m->stack[below - 1] == NULL || m->stack[below - 1]->type != type ||
        (type == PICKLE_DICT && (m->depth - first) % 2 != 0)) {
        wrong(m, ERR_FORMAT,
              type == PICKLE_DICT ? "pairs without a dict below them" : "items without a list");
        return;
    }
    for (size_t i = first; i < m->depth; i++)
        if (m->stack[i] == NULL)
            wrong(m, ERR_FORMAT, "a mark among items");
    gather(m, m->stack[below - 1], first, count == 0);
}

/* -- operations ------------------------------------------------------------------------------ */

static void push_int(struct machine *m, int64_t value) {
    struct pickle_value *out = make(m, PICKLE_INT);
    if (out != NULL)
        out->integer = value;
    push(m, out);
}

/* Little endian, two's complement. */
static void push_long(struct machine *m) {
    size_t bytes = (size_t)take_number(m, 1);
    if (bytes > 8)
        wrong(m, ERR_LIMIT, "a whole number of more than 8 bytes");
    uint64_t value = take_number(m, bytes);
    if (bytes > 0 && bytes < 8 && (value >> (8 * bytes - 1) & 1) != 0)
        value |= UINT64_MAX << (8 * bytes);
    push_int(m, (int64_t)value);
}

static void push_float(struct machine *m) {
    const uint8_t *from = take(m, 8);
    struct pickle_value *out = make(m, PICKLE_FLOAT);
    uint64_t bits = 0;
    for (int i = 0; from != NULL && i < 8; i++)
        bits = bits << 8 | from[i]; /* big endian */
    if (out != NULL)
        memcpy(&out->number, &bits, sizeof bits);
    push(m, out);
}

static void push_bool(struct machine *m, bool truth) {
    struct pickle_value *out = make(m, PICKLE_BOOL);
    if (out != NULL)
        out->integer = truth;
    push(m, out);
}

/* After its length, a number of so many bytes. */
static void push_text(struct machine *m, size_t bytes) {
    size_t length = (size_t)take_number(m, bytes);
    const uint8_t *from = take(m, length);
    struct pickle_value *out = make(m, PICKLE_TEXT);
    if (out == NULL || from == NULL)
        return;
    if (memchr(from, 0, length) != NULL || !text_is_utf8((const char *)from, length, NULL))
        wrong(m, ERR_FORMAT, "a text that is no UTF-8, or has a zero byte");
    out->text = keep_text(m, from, length);
    out->length = length;
    push(m, out);
}

/* A line of a module or name, printable ASCII; NULL after an error. */
static const char *take_line(struct machine *m, char out[GLOBAL_MAX]) {
    size_t length = 0;
    const uint8_t *byte;
    while ((byte = take(m, 1)) != NULL && *byte != '\n' && length < GLOBAL_MAX - 1) {
        if (*byte <= ' ' || *byte > '~')
            wrong(m, ERR_FORMAT, "a global's name that is no name");
        out[length++] = (char)*byte;
    }
    out[length] = 0;
    if (byte != NULL && *byte != '\n')
        wrong(m, ERR_LIMIT, "a global's name that is too long");
    return m->code == ERR_OK ? out : NULL;
}

/* The one of the list, else nothing. */
static void push_global(struct machine *m, const char *module, const char *name) {
    char both[2 * GLOBAL_MAX];
    size_t length = strlen(module);
    memcpy(both, module, length);
    both[length++] = ' ';
    memcpy(both + length, name, strlen(name) + 1);
    for (const char *const *allowed = m->globals; *allowed != NULL; allowed++) {
        if (strcmp(*allowed, both) == 0) {
            struct pickle_value *out = make(m, PICKLE_GLOBAL);
            if (out != NULL)
                out->text = *allowed;
            push(m, out);
            return;
        }
    }
    m->code = error_set(m->error, ERR_UNSUPPORTED,
                        "byte %zu of the pickle: it asks for '%s.%s', which a file of tensors has "
                        "no use for; nothing was run",
                        m->opcode, module, name);
}

static void global_of_lines(struct machine *m) {
    char module[GLOBAL_MAX], name[GLOBAL_MAX];
    if (take_line(m, module) != NULL && take_line(m, name) != NULL)
        push_global(m, module, name);
}

/* By two texts, as from protocol 4 on. */
static void global_of_stack(struct machine *m) {
    const struct pickle_value *name = pop(m), *module = pop(m);
    if (m->code != ERR_OK)
        return;
    if (name->type != PICKLE_TEXT || module->type != PICKLE_TEXT)
        wrong(m, ERR_FORMAT, "a global's name that is no name");
    else if (name->length >= GLOBAL_MAX || module->length >= GLOBAL_MAX)
        wrong(m, ERR_LIMIT, "a global's name that is too long");
    else
        push_global(m, module->text, name->text);
}

/* Of bytes that may be read at once, for those who read them one by one. */
static void frame(struct machine *m) {
    if (take_number(m, 8) > m->length - m->at)
        wrong(m, ERR_FORMAT, "a frame that reaches past its end");
}

static void protocol(struct machine *m) {
    uint64_t number = take_number(m, 1);
    if (number < 2 || number > 5)
        wrong(m, ERR_UNSUPPORTED, "a protocol other than 2 to 5");
}

static void reduce(struct machine *m) {
    struct pickle_value *arguments = pop(m), *callee = pop(m);
    if (m->code != ERR_OK)
        return;
    if (callee->type != PICKLE_GLOBAL || arguments->type != PICKLE_TUPLE) {
        wrong(m, ERR_UNSUPPORTED, "a call of something that is no global");
        return;
    }
    bool dict = strcmp(callee->text, "collections OrderedDict") == 0;
    if (dict && arguments->length != 0) {
        wrong(m, ERR_UNSUPPORTED, "an OrderedDict that is made from arguments");
        return;
    }
    struct pickle_value *out = make(m, dict ? PICKLE_DICT : PICKLE_CALL);
    if (out != NULL && !dict) {
        out->text = callee->text;
        out->first = arguments->first;
        out->length = arguments->length;
    }
    push(m, out);
}

static void outside(struct machine *m) {
    struct pickle_value *name = pop(m), *out = make(m, PICKLE_OUTSIDE);
    if (out != NULL && name != NULL)
        append(m, out, name);
    push(m, out);
}

/* The attributes of an OrderedDict (a state dict's `_metadata`): nothing in them says more about
 * tensors. */
static void build(struct machine *m) {
    (void)pop(m);
    if (m->code == ERR_OK && (m->depth == 0 || m->stack[m->depth - 1] == NULL ||
                              m->stack[m->depth - 1]->type != PICKLE_DICT))
        wrong(m, ERR_UNSUPPORTED, "attributes of something that is no dict");
}

/* Python numbers what it remembers one after the other. */
static void put(struct machine *m, size_t index) {
    if (m->code == ERR_OK &&
        (m->depth == 0 || m->stack[m->depth - 1] == NULL || index > m->memo_count))
        wrong(m, ERR_FORMAT, "it remembers what is not there, or under a number out of turn");
    if (m->code == ERR_OK && index == m->memo_room) {
        size_t room = m->memo_room == 0 ? 1024 : 2 * m->memo_room;
        struct pickle_value **memo = allocate(m, room * sizeof(void *));
        if (memo == NULL)
            return;
        if (m->memo_count > 0)
            memcpy(memo, m->memo, m->memo_count * sizeof(void *));
        m->memo = memo;
        m->memo_room = room;
    }
    if (m->code != ERR_OK)
        return;
    m->memo[index] = m->stack[m->depth - 1];
    if (index == m->memo_count)
        m->memo_count++;
}

static void get(struct machine *m, size_t index) {
    if (m->code == ERR_OK && index >= m->memo_count)
        wrong(m, ERR_FORMAT, "it recalls what was never remembered");
    if (m->code == ERR_OK)
        push(m, m->memo[index]);
}

static void push_mark(struct machine *m) {
    push(m, NULL);
}

static void tuple_over_mark(struct machine *m) {
    size_t first = over_mark(m);
    struct pickle_value *tuple = make(m, PICKLE_TUPLE);
    gather(m, tuple, first, true);
    push(m, tuple);
}

static void unknown(struct machine *m, int opcode) {
    if (m->code == ERR_OK)
        m->code = error_set(m->error, ERR_UNSUPPORTED,
                            "byte %zu of the pickle: operation 0x%02x, which a file of tensors has "
                            "no use for; nothing was run",
                            m->opcode, (unsigned)opcode);
}

static void run_number(struct machine *m, int opcode) {
    switch (opcode) {
    case OP_BININT:
        push_int(m, (int32_t)(uint32_t)take_number(m, 4));
        break;
    case OP_BININT1:
        push_int(m, (int64_t)take_number(m, 1));
        break;
    case OP_BININT2:
        push_int(m, (int64_t)take_number(m, 2));
        break;
    case OP_LONG1:
        push_long(m);
        break;
    case OP_BINFLOAT:
        push_float(m);
        break;
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        push_bool(m, opcode == OP_NEWTRUE);
        break;
    default:
        unknown(m, opcode);
    }
}

static void run_one(struct machine *m, int opcode) {
    switch (opcode) {
    case OP_PROTO:
        protocol(m);
        break;
    case OP_FRAME:
        frame(m);
        break;
    case OP_MARK:
        push_mark(m);
        break;
    case OP_NONE:
        push(m, make(m, PICKLE_NONE));
        break;
    case OP_BINUNICODE:
        push_text(m, 4);
        break;
    case OP_SHORT_BINUNICODE:
        push_text(m, 1);
        break;
    case OP_EMPTY_LIST:
    case OP_EMPTY_DICT:
    case OP_EMPTY_TUPLE:
        push(m, make(m, opcode == OP_EMPTY_LIST   ? PICKLE_LIST
                        : opcode == OP_EMPTY_DICT ? PICKLE_DICT
                                                  : PICKLE_TUPLE));
        break;
    case OP_APPEND:
        add_items(m, PICKLE_LIST, 1);
        break;
    case OP_APPENDS:
        add_items(m, PICKLE_LIST, 0);
        break;
    case OP_SETITEM:
        add_items(m, PICKLE_DICT, 2);
        break;
    case OP_SETITEMS:
        add_items(m, PICKLE_DICT, 0);
        break;
    case OP_TUPLE:
        tuple_over_mark(m);
        break;
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        tuple_of(m, (size_t)opcode - OP_TUPLE1 + 1);
        break;
    case OP_GLOBAL:
        global_of_lines(m);
        break;
    case OP_STACK_GLOBAL:
        global_of_stack(m);
        break;
    case OP_REDUCE:
        reduce(m);
        break;
    case OP_BUILD:
        build(m);
        break;
    case OP_BINPERSID:
        outside(m);
        break;
    case OP_BINPUT:
        put(m, (size_t)take_number(m, 1));
        break;
    case OP_LONG_BINPUT:
        put(m, (size_t)take_number(m, 4));
        break;
    case OP_MEMOIZE:
        put(m, m->memo_count);
        break;
    case OP_BINGET:
        get(m, (size_t)take_number(m, 1));
        break;
    case OP_LONG_BINGET:
        get(m, (size_t)take_number(m, 4));
        break;
    default:
        run_number(m, opcode);
    }
}

enum error_code pickle_read(const struct pickle_value **out, struct arena *arena,
                            const uint8_t *bytes, size_t length, const char *const *globals,
                            struct error *error) {
    *out = NULL;
    struct machine *m = arena_zalloc(arena, sizeof *m);
    if (m == NULL)
        return error_set(error, ERR_LIMIT, "no room to read a pickle");
    m->arena = arena;
    m->bytes = bytes;
    m->length = length;
    m->globals = globals;
    m->error = error;
    while (m->code == ERR_OK) {
        m->opcode = m->at;
        const uint8_t *opcode = take(m, 1);
        if (opcode == NULL || *opcode == OP_STOP)
            break;
        run_one(m, *opcode);
    }
    if (m->code == ERR_OK && (m->depth != 1 || m->stack[0] == NULL))
        wrong(m, ERR_FORMAT, "it ends with other than one value");
    if (m->code == ERR_OK && m->at != length)
        wrong(m, ERR_FORMAT, "there is more after its end");
    if (m->code == ERR_OK)
        *out = m->stack[0];
    return m->code;
}

const struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key) {
    if (dict->type != PICKLE_DICT)
        return NULL;
    for (const struct pickle_item *item = dict->first; item != NULL; item = item->next->next)
        if (item->value->type == PICKLE_TEXT && strcmp(item->value->text, key) == 0)
            return item->next->value;
    return NULL;
}

const struct pickle_value *pickle_item(const struct pickle_value *value, size_t index) {
    const struct pickle_item *item = value->first;
    for (; item != NULL && index > 0; index--)
        item = item->next;
    return item == NULL ? NULL : item->value;
}
