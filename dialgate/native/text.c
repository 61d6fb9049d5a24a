/* Texts: the digits of a text, and repeated names in a JSON document. */

#include "primitives.h"
#include <string.h>

/* Return the digits 0 to 9 of a text. */
PyObject *digits(PyObject *Py_UNUSED(module), PyObject *text)
{
    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "expected a text");
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), count = 0;
    for (Py_ssize_t at = 0; at < length; at++)
        count += PyUnicode_READ(kind, data, at) - '0' < 10U;
    PyObject *found = PyUnicode_New(count, '9');
    if (found == NULL || count == 0)
        return found;
    Py_UCS1 *into = PyUnicode_1BYTE_DATA(found);
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 each = PyUnicode_READ(kind, data, at);
        if (each - '0' < 10U)
            *into++ = (Py_UCS1)each;
    }
    return found;
}

enum { DEEPEST = 16, WIDEST = 64 };

/* Return a repeated name in an object of a valid document, or None. Call the Python version for escaped names and for too
 * many names. Objects nested deeper than `depth` are not checked. Never reads beyond the bytes, even if they are invalid. */
PyObject *repeated(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer body;
    int depth;
    if (!PyArg_ParseTuple(args, "y*i:repeated", &body, &depth))
        return NULL;
    struct {
        const char *begin;
        Py_ssize_t length;
    } names[WIDEST];
    int first[DEEPEST + 1], level = 0, count = 0; /* start of each level's names in `names` */
    const char *at = body.buf, *end = at + body.len, *text = NULL;
    Py_ssize_t length = 0;
    PyObject *found = Py_None;
    for (; found == Py_None && at < end; at++) {
        switch (*at) {
        case '{':
            if (++level > DEEPEST)
                found = Py_NotImplemented;
            else
                first[level] = count;
            break;
        case '}':
            if (level > 0)
                count = first[level--];
            break;
        case '"':
            for (text = ++at; at < end && *at != '"'; at++)
                if (*at == '\\')
                    at++;
            length = (at < end ? at : end) - text;
            break;
        case ':':
            if (level == 0 || level > depth || text == NULL)
                break;
            if (count == WIDEST || memchr(text, '\\', (size_t)length) != NULL) {
                found = Py_NotImplemented;
                break;
            }
            for (int each = first[level]; each < count; each++)
                if (names[each].length == length && memcmp(names[each].begin, text, (size_t)length) == 0)
                    found = NULL;
            names[count].begin = text;
            names[count++].length = length;
            break;
        default:
            break;
        }
    }
    if (found == NULL)
        found = PyUnicode_DecodeUTF8(text, length, "replace");
    else if (found == Py_None)
        Py_INCREF(found);
    else {
        PyObject *plain = PyImport_ImportModule("dialgate.native.fallback");
        found = plain == NULL ? NULL : PyObject_CallMethod(plain, "repeated", "Oi", PyTuple_GET_ITEM(args, 0), depth);
        Py_XDECREF(plain);
    }
    PyBuffer_Release(&body);
    return found;
}
