# Chooses the chips that the CUDA kernels are built for, from what the compiler at hand knows.

# 12.0 and newer have code of their own where nvcc knows them; the rest of the newer chips run the
# portable code of 9.0.
set(MAFSAR_CHIPS 75 80 86 87 89 90 120)

# mafsar_cuda_architectures(RESULT REASON NVCC): sets RESULT to a list for CMAKE_CUDA_ARCHITECTURES,
# or to "" and REASON to why there is none.
function(mafsar_cuda_architectures result reason nvcc)
  set(${result} "" PARENT_SCOPE)
  set(${reason} "" PARENT_SCOPE)
  execute_process(COMMAND "${nvcc}" --list-gpu-arch
    OUTPUT_VARIABLE listed ERROR_VARIABLE errors RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    string(STRIP "${errors}" errors)
    string(REGEX REPLACE "\n.*" "" errors "${errors}")
    set(${reason} "${nvcc} --list-gpu-arch fails (${status} ${errors})" PARENT_SCOPE)
    return()
  endif()
  string(REGEX MATCHALL "compute_[0-9]+" listed "${listed}")
  string(REPLACE "compute_" "" listed "${listed}")
  set(found "")
  foreach(chip IN LISTS MAFSAR_CHIPS)
    if(chip IN_LIST listed)
      list(APPEND found ${chip})
    endif()
  endforeach()
  if(found STREQUAL "")
    string(REPLACE ";" " " listed "${listed}")
    string(REPLACE ";" " " wanted "${MAFSAR_CHIPS}")
    set(${reason} "${nvcc} knows the chips ${listed} and none of ${wanted}" PARENT_SCOPE)
    return()
  endif()
  # One of them is built with portable code as well, for chips without code of their own.
  set(portable 90)
  if(NOT portable IN_LIST found)
    list(GET found -1 portable)
  endif()
  list(TRANSFORM found APPEND "-real")
  list(TRANSFORM found REPLACE "^${portable}-real$" "${portable}")
  set(${result} "${found}" PARENT_SCOPE)
endfunction()
