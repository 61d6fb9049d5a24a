/* Commands to a Redis, as they go over the wire: RESP2, arrays of strings. */

#include "primitives.h"
#include <string.h>

enum { MOST_DIGITS = 20 };

typedef struct {
    const char *bytes;
    Py_ssize_t length;
    char digits[MOST_DIGITS + 1];
} Text;

/* Digits, and the sign, at the end of `into`; how many. */
static Py_ssize_t tell(char *into, long long number)
{
    unsigned long long rest = number < 0 ? -(unsigned long long)number : (unsigned long long)number;
    char *at = into + MOST_DIGITS + 1, *end = at;
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    return end - at;
}

static int read_text(PyObject *word, Text *text)
{
    if (PyBytes_Check(word)) {
        text->bytes = PyBytes_AS_STRING(word);
        text->length = PyBytes_GET_SIZE(word);
    } else if (PyUnicode_Check(word)) {
        text->bytes = PyUnicode_AsUTF8AndSize(word, &text->length);
        if (text->bytes == NULL)
            return -1;
    } else if (PyLong_Check(word)) {
        long long number = PyLong_AsLongLong(word);
        if (number == -1 && PyErr_Occurred())
            return -1;
        text->length = tell(text->digits, number);
        text->bytes = text->digits + MOST_DIGITS + 1 - text->length;
    } else {
        PyErr_Format(PyExc_TypeError, "a word is an integer, a text or bytes, not %s", Py_TYPE(word)->tp_name);
        return -1;
    }
    return 0;
}

/* What is asked is measured first, then written: `into` is NULL the first time. */
typedef struct {
    char *into;
    Py_ssize_t size;
} Wire;

static void put(Wire *wire, const char *bytes, Py_ssize_t length)
{
    if (wire->into != NULL)
        memcpy(wire->into + wire->size, bytes, (size_t)length);
    wire->size += length;
}

static void put_head(Wire *wire, char kind, Py_ssize_t number)
{
    char told[MOST_DIGITS + 1];
    Py_ssize_t length = tell(told, number);
    put(wire, &kind, 1);
    put(wire, told + MOST_DIGITS + 1 - length, length);
    put(wire, "\r\n", 2);
}

static void put_word(Wire *wire, const Text *before, const Text *text)
{
    put_head(wire, '$', before->length + text->length);
    put(wire, before->bytes, before->length);
    put(wire, text->bytes, text->length);
    put(wire, "\r\n", 2);
}

static int put_each(Wire *wire, PyObject *pair)
{
    if (PyTuple_GET_SIZE(pair) != 2 || !PyList_Check(PyTuple_GET_ITEM(pair, 1))) {
        PyErr_Format(PyExc_TypeError, "several words are what they begin with, and a list");
        return -1;
    }
    PyObject *words = PyTuple_GET_ITEM(pair, 1);
    Text before, text;
    if (read_text(PyTuple_GET_ITEM(pair, 0), &before) < 0)
        return -1;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(words); at++) {
        if (read_text(PyList_GET_ITEM(words, at), &text) < 0)
            return -1;
        put_word(wire, &before, &text);
    }
    return 0;
}

static int put_command(Wire *wire, PyObject *command)
{
    static const Text nothing = {"", 0, ""};
    if (!PyTuple_Check(command)) {
        PyErr_Format(PyExc_TypeError, "a command is a tuple, not %s", Py_TYPE(command)->tp_name);
        return -1;
    }
    Py_ssize_t length = PyTuple_GET_SIZE(command), count = 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        PyObject *word = PyTuple_GET_ITEM(command, at);
        int several = PyTuple_Check(word) && PyTuple_GET_SIZE(word) == 2 && PyList_Check(PyTuple_GET_ITEM(word, 1));
        count += several ? PyList_GET_SIZE(PyTuple_GET_ITEM(word, 1)) : 1;
    }
    put_head(wire, '*', count);
    for (Py_ssize_t at = 0; at < length; at++) {
        PyObject *word = PyTuple_GET_ITEM(command, at);
        Text text;
        if (PyTuple_Check(word)) {
            if (put_each(wire, word) < 0)
                return -1;
        } else if (read_text(word, &text) < 0) {
            return -1;
        } else {
            put_word(wire, &nothing, &text);
        }
    }
    return 0;
}

static int put_all(Wire *wire, PyObject *commands)
{
    wire->size = 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(commands); at++)
        if (put_command(wire, PyList_GET_ITEM(commands, at)) < 0)
            return -1;
    return 0;
}

PyObject *wired(PyObject *Py_UNUSED(module), PyObject *commands)
{
    if (!PyList_Check(commands))
        return PyErr_Format(PyExc_TypeError, "a list of commands, not %s", Py_TYPE(commands)->tp_name);
    Wire wire = {NULL, 0};
    if (put_all(&wire, commands) < 0)
        return NULL;
    PyObject *made = PyBytes_FromStringAndSize(NULL, wire.size);
    if (made == NULL)
        return NULL;
    wire.into = PyBytes_AS_STRING(made);
    if (put_all(&wire, commands) < 0) { /* it cannot: nothing of it has changed, for nobody else ran */
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
